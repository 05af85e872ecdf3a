"""The client against a server that runs: ask, wait, look, and take the answer along."""

from __future__ import annotations

import asyncio
import io
import json
from itertools import pairwise
from pathlib import Path

import c2pa
import pytest
from PIL import Image

from headwater_client import (
    AsyncClient,
    Client,
    HeadwaterError,
    JobError,
    JobFailedError,
    WaitTimeoutError,
)
from headwater_client.models import Attribution, Event, Index, Progress

pytestmark = pytest.mark.usefixtures("index")


@pytest.fixture
def picture(tiny_folder: Path) -> Path:
    return tiny_folder / "ada" / "ring.png"


def test_an_index_is_waited_for_and_switched(client: Client, index: Index) -> None:
    assert (index.state, index.active, index.methods[0]) == ("ready", True, "das")
    again = client.indexes.build(
        index.model, index.dataset, config={"timesteps": 2, "projection_dim": 64}
    )
    assert again.id == index.id
    told: list[Progress] = []
    assert client.indexes.wait(index, on_progress=told.append).id == index.id
    assert [(progress.stage, progress.fraction) for progress in told] == [("ready", 1.0)]
    assert not client.indexes.deactivate(index).active
    assert client.indexes.activate(index).active
    with pytest.raises(HeadwaterError) as refused:
        client.indexes.delete(index)
    assert refused.value.problem.status == 409
    assert [found.id for found in client.indexes.list()] == [index.id]


def test_a_picture_in_every_shape(client: Client, picture: Path) -> None:
    """A path as object or text, bytes, an open file, a Pillow image: one picture, one answer."""
    with picture.open("rb") as file:
        shapes = (picture, str(picture), picture.read_bytes(), file, Image.open(picture))
        asked = [
            client.attributions.ask_about_image(shape, caption="ring, ada", top_k=3)
            for shape in shapes
        ]
    ended = [client.attributions.wait(one, timeout=60) for one in asked]
    ranked = [[row.key for row in one.answer.contributors] for one in ended]
    assert all(keys == ranked[0] for keys in ranked)
    answer = ended[0].answer
    assert len(answer.contributors) == 3
    assert {owner.creator for owner in answer.by_creator} == {"Ada Example", "Bob Example"}
    assert sum(owner.share for owner in answer.by_creator) == pytest.approx(1)
    assert answer.candidates.exhaustive
    assert answer.rests_on["method"] == "das"
    assert {conflict.kind for conflict in answer.licence_conflicts} == {"share-alike"}
    assert not [
        model.model_extra for model in (ended[0], answer, *answer.contributors) if model.model_extra
    ]


def test_a_prompt_answered_at_once(client: Client) -> None:
    told = client.attributions.ask_about_prompt(
        "disc, bob", seed=3, steps=2, candidates="clip", candidate_count=5, wait=60
    )
    assert (told.status, told.ended) == ("succeeded", True)
    assert told.answer.candidates.considered == 5
    assert told.request["seed"] == 3
    assert client.attributions.image(told).startswith(b"\x89PNG")


def test_exports(client: Client, picture: Path) -> None:
    asked = client.attributions.wait(client.attributions.ask_about_image(picture), timeout=60)
    signed = client.attributions.c2pa(asked)
    with c2pa.Reader("image/png", io.BytesIO(signed)) as reader:
        assert reader.get_validation_state() == "Valid"
    kept = io.BytesIO(client.attributions.image(asked))
    manifest = client.attributions.c2pa(asked, "sidecar")
    with c2pa.Reader("image/png", kept, manifest_data=manifest) as reader:
        assert reader.get_validation_state() == "Valid"
    receipt = client.attributions.receipt(asked.id)
    assert receipt["contributors"][0]["key"] == asked.answer.contributors[0].key
    assert "@context" in client.attributions.prov(asked)


def test_progress_and_time_that_runs_out(client: Client) -> None:
    told: list[Progress] = []
    asked = client.attributions.ask_about_prompt("disc, bob", steps=1000)
    with pytest.raises(WaitTimeoutError, match="waited 0 s") as late:
        client.attributions.wait(asked, timeout=0)
    assert isinstance(late.value, TimeoutError)
    with pytest.raises(WaitTimeoutError):
        client.attributions.wait(asked, timeout=0.5, on_progress=told.append)
    assert 1 <= len(told) <= 3, "as often as Retry-After allows"
    client.attributions.cancel(asked)
    with pytest.raises(JobError) as ended:
        client.attributions.wait(asked)
    assert not isinstance(ended.value, JobFailedError)
    assert (ended.value.job_id, ended.value.status) == (asked.id, "canceled")
    with pytest.raises(ValueError, match="no result"):
        _ = client.attributions.get(asked).answer


def test_events_from_the_first_to_the_last(client: Client, picture: Path) -> None:
    asked = client.attributions.ask_about_image(picture)
    events = list(client.attributions.events(asked))
    assert [event.last for event in events] == [False] * (len(events) - 1) + [True]
    assert (events[0].status, events[-1].status) == ("queued", "succeeded")
    assert all(one.id < other.id for one, other in pairwise(events))
    later = client.attributions.events(asked, last_event_id=events[0].id)
    assert list(later) == events[1:]
    assert list(client.attributions.events(asked, last_event_id=events[-1].id)) == []


def test_a_build_that_fails_says_why(client: Client, folders: Path, index: Index) -> None:
    broken = folders / "broken"
    broken.mkdir()
    for number in range(2):
        Image.new("RGB", (16, 16)).save(broken / f"{number}.png")
    rows = [json.dumps({"file_name": f"{number}.png", "text": ""}) for number in range(2)]
    (broken / "metadata.jsonl").write_text("\n".join(rows))
    dataset = client.datasets.register("broken", broken)
    (broken / "1.png").write_bytes(b"no picture any more")
    built = client.indexes.build(index.model, dataset)
    with pytest.raises(JobFailedError) as failed:
        client.indexes.wait(built, timeout=120)
    assert (failed.value.job_id, failed.value.status) == (built.id, "failed")
    assert failed.value.problem.type.startswith("urn:headwater:problem:")
    assert failed.value.problem.title
    client.indexes.delete(built)
    client.datasets.delete(dataset)


def test_pages_are_walked_through(client: Client, index: Index) -> None:
    samples = [sample.key for sample in client.datasets.samples("shapes", page_size=5)]
    assert len(samples) == len(set(samples)) == 12
    adas = list(client.samples.list(dataset="shapes", creator="Ada Example", page_size=4))
    assert {sample.licence for sample in adas} == {"CC-BY-4.0"}
    assert len(adas) == 6
    assert list(client.samples.list(opted_out=True)) == []
    (ada, bob) = client.contributors.list(page_size=1)
    assert (ada.creator, ada.images, bob.licences) == ("Ada Example", 6, ["CC-BY-SA-4.0"])
    sample = client.samples.get(index.dataset, "ada/ring.png")
    assert sample.creator == "Ada Example"
    assert client.samples.image(sample.dataset, sample.key).startswith(b"\x89PNG")
    assert client.samples.thumbnail("shapes", "ada/ring.png").startswith(b"\x89PNG")
    dataset, model = client.datasets.get("shapes"), client.models.get("tiny")
    assert dataset in list(client.datasets.list())
    assert list(client.models.list()) == [model]
    assert client.models.evidence(model) == []


def test_a_takedown(client: Client, folders: Path) -> None:
    art = folders / "art"
    art.mkdir()
    for number in range(3):
        Image.new("RGB", (16, 16), (number, 90, 0)).save(art / f"{number}.png")
    Image.new("RGB", (16, 16), "red").save(art / "ü #1?%41.png")
    dataset = client.datasets.register("art", art)
    assert client.samples.image(dataset, "ü #1?%41.png") == (art / "ü #1?%41.png").read_bytes()
    taken = client.takedowns.create(dataset, keys=["1.png"], reason="asked for")
    ended = client.takedowns.wait(taken, timeout=60)
    assert (ended.images, ended.status) == (1, "succeeded")
    assert [found.id for found in client.takedowns.list()] == [taken.id]
    with pytest.raises(HeadwaterError) as gone:
        client.samples.get(dataset, "1.png")
    assert gone.value.problem.status == 410


def test_keys_and_health(client: Client) -> None:
    made = client.api_keys.create("robot", ["attributions:read"])
    assert made.secret.startswith("hw_")
    assert made.id in [key.id for key in client.api_keys.list()]
    assert client.api_keys.revoke(made).revoked_at is not None
    client.health.check_live()
    client.health.check_ready()
    assert client.health.is_ready()


def test_problems_of_the_server(client: Client) -> None:
    with pytest.raises(HeadwaterError, match="not found") as missing:
        client.attributions.get("atr_none")
    problem = missing.value.problem
    assert (problem.status, problem.kind) == (404, "attribution-not-found")
    with pytest.raises(HeadwaterError) as refused:
        client.attributions.ask_about_image(b"no picture")
    assert refused.value.problem.status in (415, 422)
    with pytest.raises(HeadwaterError) as wrong:
        client.attributions.ask_about_prompt("disc", top_k=0)
    assert wrong.value.problem.kind == "invalid-request"
    assert "top_k" in str(wrong.value)
    with pytest.raises(HeadwaterError):
        client.attributions.ask_about_url("http://127.0.0.1/picture.png")


def test_forgetting(client: Client, picture: Path) -> None:
    asked = client.attributions.ask_about_image(picture)
    assert asked.id in [one.id for one in client.attributions.list(page_size=2)]
    client.attributions.delete(asked)
    with pytest.raises(HeadwaterError) as gone:
        client.attributions.get(asked)
    assert gone.value.problem.status == 410


def test_the_same_with_await(server: str, picture: Path) -> None:
    """Several questions at once, each followed, waited for and exported."""

    async def one(client: AsyncClient) -> tuple[Attribution, list[Event], bytes]:
        asked = await client.attributions.ask_about_image(picture, top_k=4)
        events = [event async for event in client.attributions.events(asked)]
        ended = await client.attributions.wait(asked, timeout=60)
        return ended, events, await client.attributions.c2pa(ended)

    async def several() -> None:
        async with AsyncClient(server) as client:
            done = await asyncio.gather(*(one(client) for _ in range(3)))
            for ended, events, signed in done:
                assert len(ended.answer.contributors) == 4
                assert events[-1].status == "succeeded"
                assert signed.startswith(b"\x89PNG")
            listed = [found.id async for found in client.attributions.list(page_size=2)]
            assert {ended.id for ended, *_ in done} <= set(listed)
            with pytest.raises(HeadwaterError, match="not found"):
                await client.attributions.get("atr_none")
            slow = await client.attributions.ask_about_prompt("disc, bob", steps=1000)
            with pytest.raises(WaitTimeoutError):
                await client.attributions.wait(slow, timeout=0.2)
            await client.attributions.cancel(slow)
            assert await client.health.is_ready()

    asyncio.run(several())
