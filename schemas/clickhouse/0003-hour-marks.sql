-- Which hours of which devices have points here, and since when at the latest every one of them was in the store: what says whether a
-- sealed hour holds all points that are in `points` (src/store/clickhouse/fleet-cover.ts). at: the greatest `written` of the hour's points.
-- A view keeps it, so that nothing that inserts points can forget to; it takes the greatest time, so what comes twice changes nothing.
-- A mark that stays after its points are erased costs a look at points that are not there.
CREATE TABLE IF NOT EXISTS {database}.hour_marks (
  tenant LowCardinality(String),
  device String CODEC(ZSTD(1)),
  hour DateTime('UTC') CODEC(DoubleDelta, ZSTD(1)),
  at SimpleAggregateFunction(max, DateTime('UTC')) CODEC(ZSTD(1))
)
ENGINE = AggregatingMergeTree
PARTITION BY toYYYYMM(hour)
ORDER BY (tenant, device, hour)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;

CREATE MATERIALIZED VIEW IF NOT EXISTS {database}.hour_marks_of_points TO {database}.hour_marks AS
SELECT tenant, device, toDateTime(toStartOfHour(ts), 'UTC') AS hour, max(written) AS at FROM {database}.points GROUP BY tenant, device, hour;

-- Points from before the view.
INSERT INTO {database}.hour_marks (tenant, device, hour, at)
SELECT tenant, device, toDateTime(toStartOfHour(ts), 'UTC') AS hour, max(written) FROM {database}.points GROUP BY tenant, device, hour;

-- read_at: everything that was in the store at that time is in the row. whole: all points of the hour belong to the row's bucket.
ALTER TABLE {database}.tiers_1h ADD COLUMN IF NOT EXISTS read_at DateTime('UTC') DEFAULT toDateTime(0, 'UTC') CODEC(ZSTD(1));
ALTER TABLE {database}.tiers_1h ADD COLUMN IF NOT EXISTS whole UInt8 DEFAULT 0 CODEC(ZSTD(1));

-- Old partitions are merged to one part, which FINAL reads as it is.
ALTER TABLE {database}.points MODIFY SETTING min_age_to_force_merge_seconds = 86400, min_age_to_force_merge_on_partition_only = 1;
ALTER TABLE {database}.tiers_1h MODIFY SETTING min_age_to_force_merge_seconds = 86400, min_age_to_force_merge_on_partition_only = 1;
ALTER TABLE {database}.hour_marks MODIFY SETTING min_age_to_force_merge_seconds = 86400, min_age_to_force_merge_on_partition_only = 1;
