"""Where pictures come from, as other programs read it: C2PA, PROV-O, receipts, opt-outs."""
