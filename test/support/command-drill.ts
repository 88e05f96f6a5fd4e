/**
 * The command drill (INVARIANTS 6): an operator sends commands with random deadlines, priorities and retries to devices that connect and
 * drop at random, cancels some, and the server dies by SIGKILL again and again. At the end every command's state must agree with what
 * the devices themselves received, acknowledged and answered.
 */
import { seededRandom, type Random } from '../../simulators/fleet/seeded-random.js'
import type { TwinfoldApi } from '../../simulators/twinfold-api.js'
import { DrillGadget } from './drill-gadget.js'
import { startServer, testAdminKey, type TestServer } from './server.js'

export interface CommandDrillOptions {
  readonly directory: string
  readonly seed: number
  readonly commands: number
  readonly devices: number
  readonly kills: number
  /** Requests under way. */
  readonly atOnce: number
  readonly pauseMsMax: number
  readonly timeoutMs: readonly [number, number]
  readonly settings?: Readonly<Record<string, string>>
  readonly log: (line: string) => void
}

export interface CommandDrillResult {
  readonly states: Readonly<Record<string, number>>
  readonly kills: number
  readonly handedOver: number
  readonly answersAcked: number
  /** How long after its deadline a device got a command at most, by the device's own clock, ms; 0: none did. */
  readonly afterDeadlineMs: number
  /** What does not agree, at most 20 lines; empty when the promise holds. */
  readonly lies: readonly string[]
}

interface Asked { readonly device: string, id: string, cancelled: 'no' | 'yes' }

interface AnswerJson { readonly time: string, readonly outcome: string, readonly late: boolean, readonly payload?: { readonly first: boolean } }

export interface CommandJson {
  readonly id: string
  readonly state: string
  readonly finished: boolean
  readonly expiresAt: string
  readonly retries: number
  readonly known: { readonly delivery: string, readonly attempts: readonly { readonly sentAt: string, readonly deliveredAt: string | null }[] }
  readonly said: { readonly answer: AnswerJson | null, readonly lateAnswers: readonly AnswerJson[], readonly lateAnswersBeyond: number }
}

const tenant = 'drill'
const settleTimeoutMs = 60_000
const liesMax = 20
/** A message that was handed to the socket in time may reach a busy device this much later. */
const onTheWayMsMax = 1500

const pause = async (ms: number): Promise<void> => { await new Promise(resolve => { setTimeout(resolve, ms) }) }

/** The server of the moment; null while there is none. */
class Operator {
  api: TwinfoldApi | null = null
  readonly asked: Asked[] = []
  readonly #options: CommandDrillOptions
  readonly #random: Random
  #number = 0

  constructor (options: CommandDrillOptions, random: Random) {
    this.#options = options
    this.#random = random
  }

  get done (): boolean { return this.asked.length >= this.#options.commands }

  async run (): Promise<void> {
    await Promise.all(Array.from({ length: this.#options.atOnce }, async () => { await this.#work() }))
  }

  async #work (): Promise<void> {
    while (this.#number < this.#options.commands) {
      const number = this.#number++
      const asked = await this.#ask(number)
      this.asked.push(asked)
      if (this.#random() < 0.05) await this.#cancel(asked)
      await pause(this.#random() * this.#options.pauseMsMax)
    }
  }

  async #ask (number: number): Promise<Asked> {
    const { timeoutMs: [least, most], devices } = this.#options
    const random = this.#random
    const body = {
      name: `n${number % 5}`, payload: { number }, priority: Math.floor(random() * 10), retries: Math.floor(random() * 4),
      expiresAt: Math.round(Date.now() + least + random() * (most - least)), delivery: random() < 0.05 ? 'ifConnected' : 'queued'
    }
    for (let attempt = 0; ; attempt++) {
      // A device with too much pending says so; another one gets it then.
      const device = `gadget-${(number * 7 + Math.floor(attempt / 50)) % devices}`
      const answer = await this.request('POST', `/devices/${device}/commands`, body, { 'idempotency-key': `${number}-${device}` })
      if (answer !== null && (answer.status === 200 || answer.status === 202)) return { device, id: (answer.body as CommandJson).id, cancelled: 'no' }
      if (answer !== null && answer.status === 400 && body.expiresAt <= Date.now()) body.expiresAt = Math.round(Date.now() + most)
      else if (answer !== null && answer.status !== 409 && answer.status < 500 && answer.status !== 422) throw new Error(`${answer.status}: ${JSON.stringify(answer.body)}`)
      await pause(20)
    }
  }

  async #cancel (asked: Asked): Promise<void> {
    const answer = await this.request('POST', `/devices/${asked.device}/commands/${asked.id}/cancel`)
    if (answer?.status === 200) asked.cancelled = 'yes'
  }

  /** null: there is no server, or it died. */
  async request (method: string, path: string, body?: unknown, headers: Record<string, string> = {}): Promise<{ status: number, body: unknown } | null> {
    try {
      return await this.api?.ask(method, path, body, headers) ?? null
    } catch {
      return null
    }
  }
}

export async function runCommandDrill (options: CommandDrillOptions): Promise<CommandDrillResult> {
  const { directory, log, settings = {} } = options
  const random = seededRandom(options.seed)
  log(`seed ${options.seed}`)
  const start = async (): Promise<TestServer> => await startServer({ directory, settings: { ...settings, TWINFOLD_ANALYTICS: 'off' } })
  let server = await start()
  const gadgets = new Map<string, DrillGadget>()
  try {
    const key = await server.api(testAdminKey).createTenant(tenant, 365)
    const ids = Array.from({ length: options.devices }, (_, i) => `gadget-${i}`)
    const tokens = await server.api(key).createDevices(ids)
    for (const [i, id] of ids.entries()) gadgets.set(id, new DrillGadget({ id, token: tokens[i], random: seededRandom(options.seed + i + 1), connectedMsMax: 3000, awayMsMax: 800 }))
    const operator = new Operator(options, random)
    const use = (next: TestServer): void => {
      for (const gadget of gadgets.values()) gadget.run(next.mqttPort)
      operator.api = next.api(key)
    }
    use(server)
    const running = operator.run()
    let failed: unknown
    running.catch((error: unknown) => { failed = error })
    for (let kill = 1; kill <= options.kills; kill++) {
      // Spread over the commands; at random moments between.
      const share = options.commands * (kill - 0.5 + (random() - 0.5) * 0.8) / options.kills
      while (operator.asked.length < share && failed === undefined) await pause(5)
      if (failed !== undefined) throw failed
      await server.kill()
      operator.api = null
      server = await start()
      use(server)
      log(`kill ${kill} after ${operator.asked.length} commands; back after ${Math.round(server.startMs)} ms`)
    }
    await running
    await settle(gadgets, server)
    return await compare(operator, gadgets, options, log)
  } finally {
    for (const gadget of gadgets.values()) gadget.close()
    await server.kill()
  }
}

async function settle (gadgets: ReadonlyMap<string, DrillGadget>, server: TestServer): Promise<void> {
  for (const gadget of gadgets.values()) gadget.settle()
  const untilMs = Date.now() + settleTimeoutMs
  for (const gadget of gadgets.values()) {
    while (gadget.outstanding > 0) {
      if (Date.now() > untilMs || !server.running) throw new Error(`${gadget.id}: ${gadget.outstanding} answers were not acknowledged\n${server.errorText}`)
      await pause(10)
    }
  }
}

/** Waits for the end of every command, and holds it against the ledgers. */
async function compare (operator: Operator, gadgets: ReadonlyMap<string, DrillGadget>, options: CommandDrillOptions, log: (line: string) => void): Promise<CommandDrillResult> {
  const lies: string[] = []
  const states: Record<string, number> = {}
  let afterDeadlineMs = 0
  let handedOver = 0
  const untilMs = Date.now() + options.timeoutMs[1] + settleTimeoutMs
  for (const asked of operator.asked) {
    const gadget = gadgets.get(asked.device) as DrillGadget
    const command = await finished(operator, asked, untilMs)
    const lie = (what: string): void => { if (lies.length < liesMax) lies.push(`${what}: ${JSON.stringify({ command, receipts: gadget.receipts.get(asked.id), answer: gadget.answers.get(asked.id) })}`) }
    if (command === null) {
      lie(`${asked.id} is lost`)
      continue
    }
    states[command.state] = (states[command.state] ?? 0) + 1
    handedOver += command.known.attempts.length
    afterDeadlineMs = Math.max(afterDeadlineMs, ...(gadget.receipts.get(asked.id) ?? []).map(({ atMs }) => atMs - Date.parse(command.expiresAt)))
    judge(command, asked, gadget, lie)
  }
  for (const gadget of gadgets.values()) for (const id of gadget.doubled) if (lies.length < liesMax) lies.push(`${id} came twice on one connection`)
  const answersAcked = [...gadgets.values()].reduce((sum, { answers }) => sum + [...answers.values()].filter(({ ackedAtMs }) => ackedAtMs > 0).length, 0)
  const result = { states, kills: options.kills, handedOver, answersAcked, afterDeadlineMs, lies }
  log(JSON.stringify({ ...result, lies: lies.length, connects: [...gadgets.values()].reduce((sum, { connects }) => sum + connects, 0) }))
  return result
}

async function finished (operator: Operator, { device, id }: Asked, untilMs: number): Promise<CommandJson | null> {
  for (;;) {
    const answer = await operator.request('GET', `/devices/${device}/commands/${id}?wait=5000`)
    if (answer?.status === 404) return null
    if (answer?.status === 200 && (answer.body as CommandJson).finished) return answer.body as CommandJson
    if (Date.now() > untilMs) return answer?.body as CommandJson ?? null
    if (answer?.status !== 200) await pause(50)
  }
}

function judge (command: CommandJson, asked: Asked, gadget: DrillGadget, lie: (what: string) => void): void {
  const { state, known, said } = command
  const deadlineMs = Date.parse(command.expiresAt)
  const receipts = gadget.receipts.get(asked.id) ?? []
  const given = gadget.answers.get(asked.id)
  if (!command.finished) lie('it has not ended')
  if (asked.cancelled === 'yes' && state !== 'cancelled') lie('it was cancelled')
  if (['expired', 'cancelled', 'undeliverable'].includes(state) && receipts.length > 0) lie('the device got it')
  if (state === 'unanswered' && known.attempts.length === 0) lie('it was never handed over')
  if (receipts.length > known.attempts.length) lie('handed over more often than is said')
  if (known.attempts.length > command.retries + 1) lie('handed over more often than was wanted')
  if (receipts.some(({ atMs }) => atMs > deadlineMs + onTheWayMsMax)) lie('handed over after its deadline')
  if (known.attempts.some(({ sentAt }) => Date.parse(sentAt) >= deadlineMs)) lie('sent after its deadline')
  if (known.attempts.some(({ deliveredAt }) => deliveredAt !== null) && !receipts.some(({ acknowledged }) => acknowledged)) lie('the device acknowledged nothing')
  if (given !== undefined && given.ackedAtMs > 0) {
    // Between the two clocks' readings of one moment, either is true.
    if (given.ackedAtMs < deadlineMs && state !== given.outcome) lie('it was answered in time')
    if (given.sentAtMs > deadlineMs && (state !== 'unanswered' || said.answer?.late !== true)) lie('its answer came late')
    if (said.answer === null || said.answer.payload?.first !== true || said.answer.outcome !== given.outcome) lie('its first answer is another')
    if (1 + said.lateAnswers.length + said.lateAnswersBeyond < given.acked) lie('an answer is missing')
  }
  if (said.answer !== null && given === undefined) lie('the device never answered')
  if ((state === 'succeeded' || state === 'failed') && (given === undefined || state !== given.outcome)) lie('the device did not say so')
}
