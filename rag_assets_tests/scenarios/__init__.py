"""Tests of the invariants, with real processes and servers.

| what happens | where it is tested |
| --- | --- |
| (a) an edit during a backfill that holds the older text | test_backfill_and_stream |
| (b) a delete during a backfill, and its retry | test_backfill_and_stream |
| (c) delete, then re-add, during a backfill | test_backfill_and_stream |
| (d) a document created before the backfill's position | test_backfill_and_stream |
| (e) a document shrinks from many chunks to few, to none | test_changes_stream, test_incremental |
| (f) a crash at each write, commit and delete | test_crashes |
| (g) Milvus refuses or loses a delete | test_interleavings |
| (h) Milvus loses rows; the audit repairs them and says so | test_faults, test_interleavings |
| (i) a zombie wakes after its successor | test_faults, test_interleavings |
| (j) events repeated, out of order, lost | ../test_sensors |
| (k) equal and skewed modification times | test_changes_stream, ../adapters/test_source |
| (l) a document twice in a batch, and in both lanes | ../test_sensors, test_backfill_and_stream |
| (m) two keys with the same bytes, one deleted | test_changes_stream, test_incremental |
| (n) one poison document among fifty | test_changes_stream |
| (o) 429 and 503 from the embedding server | test_faults |
| (p) runs by hand and by the sensor on the same shards | test_faults, test_crashes |
| (q) the sensor dies between listing and requesting | test_faults |
| (r) the daemon dies and is started again | test_faults |
| (s) a change of metadata only | test_changes_stream, test_incremental |

`platform.py` runs the whole platform for them; `soak.py` does all of it at random.
"""
