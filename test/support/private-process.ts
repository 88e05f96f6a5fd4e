/**
 * A process of a real service that belongs to one test: in a folder of its own, on ports of its own, and gone together with
 * the test process whatever ends that. A guard process holds a pipe from the test; when the pipe closes (even by SIGKILL), it
 * kills what it was told of and removes the folder.
 */
import { spawn, type ChildProcess } from 'node:child_process'
import { randomInt } from 'node:crypto'
import { closeSync, mkdtempSync, openSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'

/** Reads `+pid` and `-pid`; at the end of its input kills those left, waits until they are gone (bounded), and removes the folder. */
const guardScript = `trap '' INT TERM HUP
pids=' '
while read -r line; do
  case $line in
    +*) pids="$pids\${line#+} " ;;
    -*) pids=$(printf %s "$pids" | sed "s/ \${line#-} / /") ;;
  esac
done
for pid in $pids; do kill -9 "$pid" 2>/dev/null; done
tries=0
while [ $tries -lt 50 ]; do
  alive=0
  for pid in $pids; do kill -0 "$pid" 2>/dev/null && alive=1; done
  [ $alive = 0 ] && break
  tries=$((tries + 1))
  sleep 0.1
done
rm -rf -- "$1"
`

/** A folder that outlives neither \`close()\` nor the test process, and neither do the processes adopted into it. */
export class PrivateFolder {
  readonly directory: string
  readonly #guard: ChildProcess

  constructor (name: string) {
    this.directory = mkdtempSync(join(tmpdir(), `twinfold-${name}-`))
    this.#guard = spawn('sh', ['-c', guardScript, 'guard', this.directory], { stdio: ['pipe', 'ignore', 'ignore'], detached: true })
    this.#guard.stdin?.on('error', () => { /* The guard is gone only when the folder is closed. */ })
    this.#guard.unref()
  }

  adopt (pid: number): void { this.#guard.stdin?.write(`+${pid}\n`) }
  release (pid: number): void { this.#guard.stdin?.write(`-${pid}\n`) }

  /** Kills what is left and removes the folder. */
  async close (): Promise<void> {
    if (this.#guard.exitCode === null) {
      const gone = new Promise(resolve => { this.#guard.once('exit', resolve) })
      this.#guard.ref()
      this.#guard.stdin?.end()
      await gone
    }
    await rm(this.directory, { recursive: true, force: true })
  }
}

export interface ProcessSpec {
  readonly command: string
  readonly args: readonly string[]
  readonly cwd: string
  readonly environment?: NodeJS.ProcessEnv
  readonly logFile: string
}

/** One start of a service. */
export class PrivateProcess {
  readonly pid: number
  readonly #child: ChildProcess
  readonly #exited: Promise<void>
  #ended = ''

  constructor (folder: PrivateFolder, spec: ProcessSpec) {
    const log = openSync(spec.logFile, 'a')
    this.#child = spawn(spec.command, spec.args, { stdio: ['ignore', log, log], cwd: spec.cwd, env: spec.environment ?? process.env })
    closeSync(log)
    const pid = this.#child.pid
    this.#exited = new Promise(resolve => {
      this.#child.once('error', error => { this.#ended ||= error.message; resolve() })
      this.#child.once('exit', (code, signal) => {
        this.#ended ||= `ended with ${signal ?? `code ${code}`}`
        if (pid !== undefined) folder.release(pid)
        resolve()
      })
    })
    if (pid === undefined) {
      this.pid = -1
      return
    }
    this.pid = pid
    folder.adopt(pid)
    // A test that forgets to close must still be able to end.
    this.#child.unref()
  }

  /** Why it is gone, '' while it runs. */
  get ended (): string { return this.#ended }

  signal (name: NodeJS.Signals): void { if (this.#ended === '') this.#child.kill(name) }

  /** SIGKILL; resolves once it is gone. */
  async kill (): Promise<void> {
    this.#child.ref()
    this.signal('SIGKILL')
    await this.#exited
  }

  /** SIGTERM, and SIGKILL after `patienceMs`; resolves once it is gone. */
  async stop (patienceMs: number): Promise<void> {
    this.#child.ref()
    this.signal('SIGCONT')
    this.signal('SIGTERM')
    const abort = new AbortController()
    await Promise.race([this.#exited, delay(patienceMs, undefined, { signal: abort.signal }).catch(() => { /* It ended in time. */ })])
    abort.abort()
    await this.kill()
  }
}

/** A service of one test on one port, which the test may kill, pause and start again as it likes. */
export interface Restartable {
  readonly url: string
  /** SIGKILL. Resolves once the process is gone. */
  kill (): Promise<void>
  /** Starts a killed one again on what it kept; resolves when it answers. */
  start (): Promise<void>
  /** SIGSTOP: connections stay open, nothing answers. */
  pause (): void
  /** SIGCONT. */
  resume (): void
  /** Kills it and removes its data. */
  close (): Promise<void>
}

/** Starts it. @param launch makes the process @param answers resolves when it answers, rejects when it has ended or takes too long. @throws Error with the end of its log. */
export async function startRestartable ({ folder, url, launch, answers }: { folder: PrivateFolder, url: string, launch: () => PrivateProcess, answers: (started: PrivateProcess) => Promise<void> }): Promise<Restartable> {
  let current: PrivateProcess | null = null
  const start = async (): Promise<void> => {
    if (current?.ended === '') return
    current = launch()
    await answers(current)
  }
  try {
    await start()
  } catch (error) {
    await folder.close()
    throw error
  }
  return {
    url,
    start,
    kill: async () => { await current?.kill() },
    pause: () => { current?.signal('SIGSTOP') },
    resume: () => { current?.signal('SIGCONT') },
    close: async () => {
      await current?.kill()
      await folder.close()
    }
  }
}

/** A port that is free on all the addresses, below those that the system hands out by itself (outgoing connections take them). */
export async function freePort (addresses: readonly string[]): Promise<number> {
  for (let attempt = 0; attempt < 100; attempt++) {
    const port = randomInt(20_000, 32_000)
    const free = await Promise.all(addresses.map(async address => await isFree(address, port)))
    if (!free.includes(false)) return port
  }
  throw new Error(`no free port on ${addresses.join(', ')}`)
}

async function isFree (host: string, port: number): Promise<boolean> {
  return await new Promise(resolve => {
    const server = createServer()
    server.once('error', () => { resolve(false) })
    server.listen({ host, port, exclusive: true }, () => { server.close(() => { resolve(true) }) })
  })
}
