/**
 * Every limit of the server that is not configuration, and the relations between them, asserted when the
 * module is loaded. Units are last in the name.
 */
const KIB = 1024
const MIB = 1024 * KIB

/** Largest MQTT packet that is read, header included; a larger one closes the connection unread. */
export const mqttPacketBytesMax = 256 * KIB
/** Largest CONNECT; nothing more is buffered before a connection has authenticated. */
export const mqttConnectBytesMax = 16 * KIB
/** Publishes of one connection that may wait for their acknowledgement before its socket is paused. */
export const mqttInflightMax = 1024
/** Bytes of journaled, unacknowledged publishes of one connection before its socket is paused. */
export const mqttInflightBytesMax = 4 * MIB
/** MQTT 3.1.1 section 1.5.3 allows 65,535; nobody needs that, and matching cost grows with it. */
export const topicBytesMax = 1024
export const topicLevelsMax = 16
/** Bytes that wait to be written to one subscriber; beyond, QoS 0 is dropped and QoS 1/2 closes it. */
export const mqttOutboundBytesMax = 4 * MIB
/** Topics of one connection whose access decision is kept: a device has few, gateways and applications speak for many. */
export const topicCachePerDeviceMax = 64
export const topicCachePerSpeakerMax = 8192
/** Filters in one session. */
export const mqttSubscriptionsPerSessionMax = 1000

/** Largest HTTP telemetry body. */
export const httpBodyBytesMax = 4 * MIB
/** Largest Idempotency-Key in characters, and how long it is remembered. */
export const idempotencyKeyCharsMax = 128
export const idempotencyKeptMs = 24 * 3600 * 1000

export const deviceIdCharsMax = 128
export const tenantIdCharsMax = 64
export const metricNameBytesMax = 128
/** Metrics in one reading after flattening. */
export const metricsPerReadingMax = 256
/** Nesting of a reading's objects; deeper is refused. */
export const readingDepthMax = 10
/** UTF-8 bytes of one string value. */
export const stringValueBytesMax = 64 * KIB
/** A timestamp may be this far ahead of the arrival stamp. */
export const futureUsMax = 10 * 60 * 1e6
/** Bounds of a timestamp at all: 1970 to the year 2255, where microseconds stay exact in a double. */
export const timestampUsMax = 9_007_199_254_740_991

/** Shards that devices of a tenant are spread over: slabs and claims. */
export const shardCount = 256
/** Fewer readings of a device in one slice than this share a slab. */
export const denseReadingsMin = 8
/** Most readings in one chunk. */
export const chunkReadingsMax = 4096
/** A slice is cut when this much journal has gathered. */
export const sliceBytesMax = 8 * MIB
/** Journal segment size: a segment is closed when it is this large. */
export const segmentBytesMax = 64 * MIB
/** One journal record, header included. */
export const recordBytesMax = httpBodyBytesMax + 64 * KIB

/** Dead letters kept per tenant; the oldest go first. */
export const deadLettersPerTenantMax = 10_000
export const deadLetterBytesPerTenantMax = 64 * MIB
/** Dead letters of one tenant that one slice keeps; more are counted, not kept. */
export const deadLettersPerSliceMax = 1000
/** Payload bytes kept of one dead letter. */
export const deadLetterPayloadBytesMax = 64 * KIB

/**
 * While the registry does not answer, what it said last of a tenant, device or credential serves on for this long beyond its
 * lease (docs/FAILURE-MODES.md): a revocation made through another node may go unseen that long.
 */
export const registryStaleMsMax = 15 * 60 * 1000
/** "There is no such device" (or credential) is remembered this long, so that one just made does not wait. */
export const unknownLeaseMsMax = 2000

/** Hot state: metrics kept of one device; of a device with more, queries read the store. */
export const hotMetricsPerDeviceMax = 1000
/** UTF-8 bytes of a string value that is kept hot; a longer one stays in the store, and is read there. */
export const hotStringBytesMax = 4 * KIB
/** A device that nothing was written for in this time leaves the hot state. */
export const hotKeptMs = 7 * 24 * 3600 * 1000
/** Longest that the hot state may hold up a slice; what it did not take by then is read from the store. */
export const hotPutMsMax = 500

/** Webhooks of a tenant; one more gets 409. Events in one delivery, headers of a webhook. */
export const webhooksPerTenantMax = 20
export const webhookBatchEventsMax = 100
export const webhookHeadersMax = 16

/** Bounds of live subscriptions on one node. */
export interface LiveLimits {
  /** Streams (SSE); one more gets 429. */
  readonly subscribersPerTenantMax: number
  readonly subscribersPerNodeMax: number
  /** Filters of MQTT connections; one more is refused (SUBACK 0x80). */
  readonly mqttFiltersPerTenantMax: number
  readonly mqttFiltersPerNodeMax: number
  /** Devices that one stream names, or that a tenant may have where it asks for all. */
  readonly devicesPerSubscriberMax: number
  /** Devices of all subscriptions together. */
  readonly wantsPerNodeMax: number
  /** Devices of a tenant and filter that the packers are told by name; of more, they give all of the tenant. */
  readonly devicesNamedMax: number
  /** What waits for one subscriber; beyond, readings are left out and the newest values are kept. */
  readonly queueCharsMax: number
  readonly queueReadingsMax: number
  readonly newestCharsMax: number
  /** What waits for all of them; beyond, every further reading is left out so. */
  readonly nodeQueueCharsMax: number
  /** Delivered readings that are kept for those who come back, and how long is gone on for one that left. */
  readonly replayCharsMax: number
  readonly lingerMs: number
  /** A comment is sent when nothing else was for this long at most. */
  readonly keepAliveMs: number
  /** A subscriber that takes nothing for this long is cut. */
  readonly stalledMsMax: number
}

export const liveLimits: LiveLimits = {
  subscribersPerTenantMax: 200,
  subscribersPerNodeMax: 2000,
  mqttFiltersPerTenantMax: 2000,
  mqttFiltersPerNodeMax: 20_000,
  devicesPerSubscriberMax: 1000,
  wantsPerNodeMax: 200_000,
  devicesNamedMax: 5000,
  queueCharsMax: 512 * KIB,
  queueReadingsMax: 10_000,
  newestCharsMax: 512 * KIB,
  nodeQueueCharsMax: 64 * MIB,
  replayCharsMax: 16 * MIB,
  lingerMs: 15_000,
  keepAliveMs: 15_000,
  stalledMsMax: 60_000
}

function holds (relation: boolean, what: string): void {
  if (!relation) throw new Error(`limits contradict each other: ${what}`)
}
holds(mqttConnectBytesMax <= mqttPacketBytesMax, 'a CONNECT is a packet')
holds(httpBodyBytesMax < recordBytesMax, 'a body fits a record')
holds(mqttPacketBytesMax < recordBytesMax, 'a packet fits a record')
holds(recordBytesMax < segmentBytesMax, 'a record fits a segment')
holds(recordBytesMax <= sliceBytesMax, 'a record fits a slice')
holds(deadLetterPayloadBytesMax <= mqttPacketBytesMax, 'a dead letter holds at most a packet')
holds(mqttPacketBytesMax <= mqttInflightBytesMax, 'one packet fits the window')
holds(metricsPerReadingMax <= hotMetricsPerDeviceMax, 'a reading fits the hot state')
holds(hotStringBytesMax <= stringValueBytesMax, 'a hot string is a string value')
