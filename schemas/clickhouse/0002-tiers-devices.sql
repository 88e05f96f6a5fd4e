-- written: when the row was brought here, by the clock of the node that did. A rebuild brings every point anew, and what is still of
--   before it then has no raw point behind it and goes.
ALTER TABLE {database}.points ADD COLUMN IF NOT EXISTS written DateTime('UTC') DEFAULT toDateTime(0, 'UTC') CODEC(ZSTD(1));

-- Sealed hours, as the sealer folded them (DESIGN 3.4): one row for each (tenant, metric, type, device, hour, bucket). Several buckets can
-- share an hour (buckets of a minute; devices whose width changed); their points are disjoint, so readers add the rows up.
-- Hours that are not sealed yet, or hold points that came after the seal, are not here or not whole: their points are in `points`.
--
-- version: the seal's stamp (µs) that the row was folded at. A seal that leaves a window without a point writes it as deleted.
-- first, last, sum of booleans are 0 and 1 and the number of trues; of strings first_string and last_string stand.
CREATE TABLE IF NOT EXISTS {database}.tiers_1h (
  tenant LowCardinality(String),
  metric LowCardinality(String),
  device String CODEC(ZSTD(1)),
  hour DateTime64(0, 'UTC') CODEC(DoubleDelta, ZSTD(1)),
  type Enum8('number' = 1, 'boolean' = 2, 'string' = 3),
  bucket_start DateTime64(0, 'UTC') CODEC(ZSTD(1)),
  bucket_minutes UInt32 CODEC(ZSTD(1)),
  count UInt64 CODEC(T64, ZSTD(1)),
  sum Float64 CODEC(ZSTD(1)),
  min Float64 CODEC(ZSTD(1)),
  max Float64 CODEC(ZSTD(1)),
  first Float64 CODEC(ZSTD(1)),
  last Float64 CODEC(ZSTD(1)),
  first_ts DateTime64(6, 'UTC') CODEC(ZSTD(1)),
  last_ts DateTime64(6, 'UTC') CODEC(ZSTD(1)),
  m2 Float64 CODEC(ZSTD(1)),
  increase Float64 CODEC(ZSTD(1)),
  area Float64 CODEC(ZSTD(1)),
  changes UInt64 CODEC(T64, ZSTD(1)),
  true_us UInt64 CODEC(T64, ZSTD(1)),
  first_string String CODEC(ZSTD(1)),
  last_string String CODEC(ZSTD(1)),
  version UInt64 CODEC(ZSTD(1)),
  is_deleted UInt8 CODEC(ZSTD(1)),
  written DateTime('UTC') CODEC(ZSTD(1))
)
ENGINE = ReplacingMergeTree(version, is_deleted)
PARTITION BY toYear(hour)
ORDER BY (tenant, metric, device, hour, type, bucket_start, bucket_minutes)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;

-- The registry, for groups of devices. gateway: id of the gateway that speaks for the device, '' for none.
CREATE TABLE IF NOT EXISTS {database}.devices (
  tenant LowCardinality(String),
  device String,
  type LowCardinality(String),
  name String,
  gateway String,
  is_gateway Bool,
  tags Map(String, String),
  created_at DateTime64(6, 'UTC'),
  version UInt64,
  deleted UInt8
)
ENGINE = ReplacingMergeTree(version, deleted)
ORDER BY (tenant, device)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;

-- How far each journal was brought over when this row was written. A node that knows of more than stands here sees that the
-- database has lost what it had.
CREATE TABLE IF NOT EXISTS {database}.projection_marks (
  journal String,
  position UInt64
)
ENGINE = ReplacingMergeTree(position)
ORDER BY journal
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;
