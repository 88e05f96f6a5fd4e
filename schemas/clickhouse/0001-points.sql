-- Every point of every device, once a point is merged: of several rows of one key the one with the greatest version stands.
-- Readers say FINAL, because merging happens when ClickHouse likes.
--
-- version: accept stamp (µs) in the upper 64 bits, journal id in the lower: "accepted last" as everywhere else.
-- Key: a fleet query asks for one metric of a tenant over many devices, so tenant and metric come first; inside a metric a
--   device's points lie together, which compresses their times to almost nothing. The value's type is no part of the key:
--   a metric that changes its type keeps one value a timestamp.
-- Partition: the month of the event time. All versions of a point share it, so FINAL need not look across partitions.
-- fsync: an insert that was answered is on stable storage, as the projection's cursor moves on the strength of it.
-- No TTL: retention belongs to a tenant and may change; what is out of retention is left out by queries and dropped by a job.
CREATE TABLE IF NOT EXISTS {database}.points (
  tenant LowCardinality(String),
  metric LowCardinality(String),
  device String CODEC(ZSTD(1)),
  ts DateTime64(6, 'UTC') CODEC(DoubleDelta, ZSTD(1)),
  type Enum8('number' = 1, 'boolean' = 2, 'string' = 3),
  number Float64 CODEC(Gorilla, ZSTD(1)),
  boolean Bool,
  string String CODEC(ZSTD(1)),
  version UInt128 CODEC(ZSTD(1))
)
ENGINE = ReplacingMergeTree(version)
PARTITION BY toYYYYMM(ts)
ORDER BY (tenant, metric, device, ts)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;
