/**
 * The real server as a child process, as an operator would run it: for tests that kill it, restart it, or measure it. Ports
 * are any free ones; the admin key is fixed, so that a restart needs nothing from the first start.
 */
import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { TwinfoldApi } from '../../simulators/twinfold-api.js'

/** A platform admin key for servers that live as long as a test. */
export const testAdminKey = `twa_${'t'.repeat(43)}`

export interface ServerOptions {
  /** Data directory. */
  readonly directory: string
  /** Further settings, as in TWINFOLD_SLICE_INTERVAL_MS. */
  readonly settings?: Readonly<Record<string, string>>
  readonly readyTimeoutMs?: number
  /** Another entry than the server's own, that prints the same ready line. */
  readonly entryFile?: string
}

interface Ready {
  readonly mqttPort: number
  readonly httpPort: number
  readonly pid: number
}

const mainFile = fileURLToPath(new URL('../../src/main.js', import.meta.url))
const errorTextCharsMax = 20_000

export class TestServer {
  readonly mqttPort: number
  readonly httpPort: number
  readonly pid: number
  readonly httpUrl: string
  /** From the start of the process until it was ready. */
  readonly startMs: number
  readonly #child: ChildProcess
  readonly #exited: Promise<unknown>
  readonly #errorText: () => string

  constructor (child: ChildProcess, exited: Promise<unknown>, ready: Ready, startMs: number, errorText: () => string) {
    this.#child = child
    this.#exited = exited
    this.#errorText = errorText
    this.mqttPort = ready.mqttPort
    this.httpPort = ready.httpPort
    this.pid = ready.pid
    this.httpUrl = `http://127.0.0.1:${ready.httpPort}`
    this.startMs = startMs
  }

  api (key: string): TwinfoldApi {
    return new TwinfoldApi(this.httpUrl, key)
  }

  /** The end of what the server wrote to its standard error. */
  get errorText (): string { return this.#errorText() }

  get running (): boolean { return this.#child.exitCode === null && this.#child.signalCode === null }

  /** SIGKILL: nothing is flushed, nothing is said. */
  async kill (): Promise<void> {
    this.#child.kill('SIGKILL')
    await this.#exited
  }

  /** SIGTERM, and SIGKILL when it does not end. Returns the exit code, null when it had to be killed. */
  async stop (timeoutMs = 30_000): Promise<number | null> {
    this.#child.kill('SIGTERM')
    const timer = setTimeout(() => { this.#child.kill('SIGKILL') }, timeoutMs)
    await this.#exited
    clearTimeout(timer)
    return this.#child.exitCode
  }
}

/** Starts a server. @throws Error with its output when it ends or is not ready in time */
export async function startServer (options: ServerOptions): Promise<TestServer> {
  const { directory, settings = {}, readyTimeoutMs = 60_000, entryFile = mainFile } = options
  const startedMs = performance.now()
  const inherited = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('TWINFOLD_') && !name.startsWith('TAP') && name !== 'NODE_OPTIONS'))
  const child = spawn(process.execPath, [entryFile], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: {
      ...inherited,
      TWINFOLD_DATA: directory,
      TWINFOLD_HOST: '127.0.0.1',
      TWINFOLD_MQTT_PORT: '0',
      TWINFOLD_HTTP_PORT: '0',
      TWINFOLD_ADMIN_KEY: testAdminKey,
      TWINFOLD_LOG: 'warn',
      TWINFOLD_READY_JSON: '1',
      ...settings
    }
  })
  const exited = once(child, 'exit')
  // A test that fails halfway must not leave a server behind.
  const endWithUs = (): void => { child.kill('SIGKILL') }
  process.once('exit', endWithUs)
  child.once('exit', () => { process.removeListener('exit', endWithUs) })
  let output = ''
  let errors = ''
  child.stderr.on('data', (bytes: Buffer) => { errors = (errors + bytes.toString()).slice(-errorTextCharsMax) })
  const ready = await new Promise<Ready>((resolve, reject) => {
    const timer = setTimeout(() => {
      child.kill('SIGKILL')
      reject(new Error(`the server was not ready after ${readyTimeoutMs} ms\n${errors}`))
    }, readyTimeoutMs)
    child.stdout.on('data', (bytes: Buffer) => {
      output = (output + bytes.toString()).slice(-errorTextCharsMax)
      const line = output.split('\n').slice(0, -1).find(candidate => candidate.startsWith('{"ready"'))
      if (line === undefined) return
      clearTimeout(timer)
      resolve(JSON.parse(line) as Ready)
    })
    child.once('exit', (code, signal) => {
      clearTimeout(timer)
      reject(new Error(`the server ended (${String(code ?? signal)}) before it was ready\n${output}${errors}`))
    })
  })
  return new TestServer(child, exited, ready, performance.now() - startedMs, () => errors)
}

/** A new directory under the system's temporary one, and its removal. */
export async function temporaryDirectory (name: string): Promise<{ directory: string, remove: () => Promise<void> }> {
  const directory = await mkdtemp(join(tmpdir(), `twinfold-${name}-`))
  return { directory, remove: async () => { await rm(directory, { recursive: true, force: true, maxRetries: 5 }) } }
}
