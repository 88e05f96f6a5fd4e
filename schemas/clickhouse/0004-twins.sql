-- Fleet search: a row a device, from the registry, its own twin and its presence, as they were at read_at (µs): of several rows of a device
-- the one that was read last stands, whichever came first (src/search/twin-projector.ts says why that is the right one).
--
-- strings, numbers, flags: every leaf of tags, desired and reported by type, under a hash of its path, spread over eight maps each by that
--   hash, so that a filter on one path reads an eighth of the leaves of one type (src/store/clickhouse/twin-leaves.ts). The number of columns
--   does not grow with the paths that tenants think of (a JSON column opens files for each of its paths, and a tenant with many stopped the
--   engine). strings begin with `=`, so that a missing one is told from an empty one. flags: 0 false, 1 true, 2 an object or array.
-- desired, reported: the documents, for answers alone; small granules, as an answer reads few rows from everywhere.
-- state: 0 never connected, 1 connected, 2 disconnected. Times: µs, 0 for none. gateway: '' for none.
-- erased_before: values that were accepted before this stamp are of a device that had this id before, or were erased with everything else.
CREATE TABLE IF NOT EXISTS {database}.twins (
  tenant LowCardinality(String),
  device String CODEC(ZSTD(1)),
  type LowCardinality(String),
  name String,
  gateway String,
  created_at UInt64,
  tags Map(String, String) CODEC(ZSTD(1)),
  desired String CODEC(ZSTD(1)),
  reported String CODEC(ZSTD(1)),
  state UInt8,
  since UInt64,
  reason LowCardinality(String),
  activity UInt64,
  twin_version UInt64,
  desired_version UInt64,
  reported_version UInt64,
  updated_at UInt64,
  erased_before UInt64,
  s0 Map(UInt64, String), s1 Map(UInt64, String), s2 Map(UInt64, String), s3 Map(UInt64, String),
  s4 Map(UInt64, String), s5 Map(UInt64, String), s6 Map(UInt64, String), s7 Map(UInt64, String),
  n0 Map(UInt64, Float64), n1 Map(UInt64, Float64), n2 Map(UInt64, Float64), n3 Map(UInt64, Float64),
  n4 Map(UInt64, Float64), n5 Map(UInt64, Float64), n6 Map(UInt64, Float64), n7 Map(UInt64, Float64),
  f0 Map(UInt64, UInt8), f1 Map(UInt64, UInt8), f2 Map(UInt64, UInt8), f3 Map(UInt64, UInt8),
  f4 Map(UInt64, UInt8), f5 Map(UInt64, UInt8), f6 Map(UInt64, UInt8), f7 Map(UInt64, UInt8),
  read_at UInt64,
  deleted UInt8
)
ENGINE = ReplacingMergeTree(read_at, deleted)
ORDER BY (tenant, device)
SETTINGS index_granularity = 256, fsync_after_insert = 1, fsync_part_directory = 1;

-- When devices were last heard, which changes far more often than the rest of a device.
CREATE TABLE IF NOT EXISTS {database}.twin_activity (
  tenant LowCardinality(String),
  device String CODEC(ZSTD(1)),
  at SimpleAggregateFunction(max, UInt64) CODEC(ZSTD(1))
)
ENGINE = AggregatingMergeTree
ORDER BY (tenant, device)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;

-- The newest point of every series by event time, of several at one time the one accepted last: a late point never replaces a newer one, and
-- what comes twice changes nothing. A view over points keeps it, so that nothing that inserts points can forget to; ReplacingMergeTree cuts a
-- block to one row a series as it is inserted. Points that are erased or never come again take their series out of here, which is then
-- filled from the points that are left (src/store/clickhouse/twin-latest.ts).
--
-- version: event time (µs) over the point's version (accept stamp over journal id). stamp: the accept stamp alone.
CREATE TABLE IF NOT EXISTS {database}.latest (
  tenant LowCardinality(String),
  metric LowCardinality(String),
  device String CODEC(ZSTD(1)),
  ts DateTime64(6, 'UTC') CODEC(ZSTD(1)),
  type Enum8('number' = 1, 'boolean' = 2, 'string' = 3),
  number Float64 CODEC(ZSTD(1)),
  boolean Bool,
  string String CODEC(ZSTD(1)),
  stamp UInt64 CODEC(ZSTD(1)),
  version UInt256 CODEC(ZSTD(1)),
  written DateTime('UTC') CODEC(ZSTD(1))
)
ENGINE = ReplacingMergeTree(version)
ORDER BY (tenant, metric, device)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;

CREATE MATERIALIZED VIEW IF NOT EXISTS {database}.latest_of_points TO {database}.latest AS
SELECT tenant, metric, device, ts, type, number, boolean, string, toUInt64(bitShiftRight(version, 64)) AS stamp,
  bitOr(bitShiftLeft(toUInt256(toUnixTimestamp64Micro(ts)), 128), toUInt256(version)) AS version, written
FROM {database}.points;

-- Points from before the view.
INSERT INTO {database}.latest (tenant, metric, device, ts, type, number, boolean, string, stamp, version, written)
SELECT tenant, metric, device, ts, type, number, boolean, string, toUInt64(bitShiftRight(version, 64)),
  bitOr(bitShiftLeft(toUInt256(toUnixTimestamp64Micro(ts)), 128), toUInt256(version)), written
FROM {database}.points;
