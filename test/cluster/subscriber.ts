/** A subscriber with a session of its own that moves between nodes: what it received, and its half of the QoS 2 exchanges, outlive its connections. */
import { connectPacket, packetsIn, puback, pubcomp, publishesIn, pubrec, subscribe, until, type ConnectOptions, type RawClient, type Stage } from '../edge/mqtt-harness.js'

export class Subscriber {
  /** Payloads in the order of their arrival; QoS 2 ones once. */
  readonly received: string[] = []
  /** Of QoS 1, with DUP not looked at. */
  repeats = 0
  sessionPresent = false
  /** Filters that a SUBACK refused. */
  refusedFilters = 0
  readonly #options: ConnectOptions
  readonly #seen = new Set<string>()
  /** QoS 2 ids between PUBLISH and PUBREL. */
  readonly #exchanges = new Set<number>()
  #client: RawClient | null = null
  #subscribed: (() => void) | null = null
  #acknowledges = true

  constructor (options: ConnectOptions) { this.#options = options }

  get client (): RawClient { return this.#client as RawClient }

  /** Connects to a node, whatever connection it has. @returns the CONNACK code. */
  async connect (stage: Pick<Stage, 'socket'>): Promise<number> {
    const client = await stage.socket()
    client.send(connectPacket({ clean: false, ...this.#options }))
    const connack = await client.next()
    this.sessionPresent = connack[2] === 1
    if (connack[3] !== 0) return connack[3]
    this.#client = client
    const early = client.packets.splice(0)
    client.packets.push = (...packets: Buffer[]): number => {
      for (const packet of packets) this.#take(client, packet)
      return 0
    }
    for (const packet of early) this.#take(client, packet)
    return 0
  }

  async subscribe (...filters: readonly (readonly [string, number])[]): Promise<void> {
    let done = false
    this.#subscribed = () => { done = true }
    this.client.send(subscribe(1, ...filters))
    await until(() => done)
  }

  /** Goes without a word. */
  drop (): void { this.#client?.end() }

  /** From now on acknowledges nothing. */
  silence (): void { this.#acknowledges = false }
  speak (): void { this.#acknowledges = true }

  #take (client: RawClient, packet: Buffer): void {
    for (const each of packetsIn(packet)) {
      const kind = each[0] >> 4
      if (kind === 9) {
        this.refusedFilters += [...each.subarray(4)].filter(code => code === 0x80).length
        this.#subscribed?.()
      }
      else if (kind === 6) this.#released(client, each.readUInt16BE(2))
      else if (kind === 3) this.#published(client, each)
    }
  }

  #released (client: RawClient, id: number): void {
    this.#exchanges.delete(id)
    if (this.#acknowledges) client.send(pubcomp(id))
  }

  #published (client: RawClient, packet: Buffer): void {
    const [{ payload, qos, packetId }] = publishesIn(packet)
    if (qos === 2) {
      if (!this.#exchanges.has(packetId)) this.#note(payload)
      this.#exchanges.add(packetId)
      if (this.#acknowledges) client.send(pubrec(packetId))
      return
    }
    this.#note(payload)
    if (qos === 1 && this.#acknowledges) client.send(puback(packetId))
  }

  #note (payload: string): void {
    if (this.#seen.has(payload)) this.repeats++
    this.#seen.add(payload)
    this.received.push(payload)
  }
}
