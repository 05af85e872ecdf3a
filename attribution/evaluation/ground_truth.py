"""The outputs of retrained models: measured once, one small file, reused for every method."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from attribution.errors import InputError
from attribution.index.manifest import atomic_file

FORMAT = 1


class GroundTruthError(InputError):
    """The file is no ground truth, or belongs to something else; the message says what."""


@dataclass(frozen=True)
class GroundTruth:
    """Which images each model saw, and what it then made of each query.

    ``members`` ``(M, n)`` says which training images are in subset j; ``losses`` ``(M, S, Q)`` is
    f(q, θ_{j,s}), the simple loss of query q under the model trained on subset j with training
    seed ``seeds[s]``, NaN until that model has been trained.  ``query_keys`` are
    ``<set>/<key>``.  ``protocol`` says how it was made: equal protocols give equal figures.
    """

    train_keys: list[str]
    query_keys: list[str]
    members: NDArray[np.bool_]
    seeds: list[int]
    losses: NDArray[np.float32]
    protocol: dict[str, Any]

    @classmethod
    def planned(
        cls,
        train_keys: list[str],
        query_keys: list[str],
        members: NDArray[np.bool_],
        seeds: list[int],
        protocol: dict[str, Any],
    ) -> GroundTruth:
        """Nothing is measured yet."""
        losses = np.full((len(members), len(seeds), len(query_keys)), np.nan, dtype=np.float32)
        return cls(train_keys, query_keys, members, seeds, losses, protocol)

    @property
    def query_sets(self) -> list[str]:
        """The names of the sets of queries, in their order."""
        return list(dict.fromkeys(key.partition("/")[0] for key in self.query_keys))

    def queries_of(self, query_set: str) -> NDArray[np.int64]:
        """The places of one set's queries."""
        found = [i for i, key in enumerate(self.query_keys) if key.startswith(f"{query_set}/")]
        if not found:
            raise GroundTruthError(
                f"there are no queries {query_set!r} ({', '.join(self.query_sets)})"
            )
        return np.array(found, dtype=np.int64)

    @property
    def measured(self) -> NDArray[np.bool_]:
        """Which models ``(M, S)`` have been trained and asked."""
        return np.asarray(~np.isnan(self.losses).any(axis=2))

    def missing(self) -> list[tuple[int, int]]:
        """(subset, place of the seed) still to do; all subsets under one seed come first."""
        return [(int(j), int(s)) for s, j in np.argwhere(~self.measured.T)]

    def whole_subsets(self) -> NDArray[np.int64]:
        """The subsets that have been trained under every seed."""
        return np.flatnonzero(self.measured.all(axis=1))

    def write(self, path: Path) -> None:
        """Write the file, whole or not at all."""
        with atomic_file(path) as file:
            np.savez_compressed(
                file,
                allow_pickle=False,
                format=np.array(FORMAT),
                train_keys=np.array(self.train_keys),
                query_keys=np.array(self.query_keys),
                members=np.packbits(self.members, axis=1),
                seeds=np.array(self.seeds),
                losses=self.losses,
                protocol=np.array(json.dumps(self.protocol, sort_keys=True)),
            )

    @classmethod
    def read(cls, path: Path) -> GroundTruth:
        """Read a file that ``write`` wrote."""
        try:
            with np.load(path, allow_pickle=False) as content:
                if int(content["format"]) != FORMAT:
                    raise GroundTruthError(f"{path} is of another version: measure it again")
                train_keys = [str(key) for key in content["train_keys"]]
                members = np.unpackbits(content["members"], axis=1, count=len(train_keys))
                return cls(
                    train_keys,
                    [str(key) for key in content["query_keys"]],
                    members.astype(np.bool_),
                    [int(seed) for seed in content["seeds"]],
                    content["losses"],
                    json.loads(str(content["protocol"])),
                )
        except (OSError, EOFError, ValueError, KeyError, BadZipFile) as error:
            raise GroundTruthError(f"{path} is no ground truth: {error}") from None
