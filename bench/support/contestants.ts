/**
 * The servers that a bench compares, each a process of its own on the same machine: the baselines of bench/baselines, and
 * the real server with a tenant and devices.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { startServer, testAdminKey, type TestServer } from '../../test/support/server.js'

export interface Baseline {
  readonly pid: number
  readonly port: number
  stop(): Promise<void>
}

/** @param name file of bench/baselines without its ending */
export async function startBaseline (name: 'bare-aedes' | 'bare-fastify'): Promise<Baseline> {
  const child = spawn(process.execPath, [fileURLToPath(new URL(`../baselines/${name}.js`, import.meta.url))], { stdio: ['ignore', 'pipe', 'inherit'] })
  const exited = once(child, 'exit')
  const [bytes] = await Promise.race([once(child.stdout, 'data'), exited.then(() => { throw new Error(`${name} ended`) })]) as [Buffer]
  const { port, pid } = JSON.parse(bytes.toString()) as { port: number, pid: number }
  return {
    pid,
    port,
    stop: async () => {
      child.kill('SIGTERM')
      await exited
    }
  }
}

export interface Contestant {
  readonly server: TestServer
  /** Data directory. */
  readonly directory: string
  /** Key of the tenant. */
  readonly key: string
  /** File with a device token per line, for devices d0, d1, … */
  readonly tokensFile: string
  /** Waits until all is packed. */
  drain(): Promise<void>
  /** Stops cleanly; the data stays until `remove`. */
  stop(): Promise<void>
  remove(): Promise<void>
}

const drainTimeoutMs = 600_000

/**
 * Starts the real server on a new data directory under `root`.
 * @param devices that many are created, d0, d1, …
 */
export async function startContestant (root: string, devices: number, settings: Readonly<Record<string, string>> = {}): Promise<Contestant> {
  const directory = await mkdtemp(join(root, 'twinfold-bench-'))
  const removeDirectory = async (): Promise<void> => { await rm(directory, { recursive: true, force: true, maxRetries: 5 }) }
  const server = await startServer({ directory: join(directory, 'data'), settings }).catch(async (error: unknown) => {
    await removeDirectory()
    throw error
  })
  const key = await server.api(testAdminKey).createTenant('bench', 3650)
  const tokens = await server.api(key).createDevices(Array.from({ length: devices }, (_, i) => `d${i}`), 64)
  const tokensFile = join(directory, 'tokens')
  await writeFile(tokensFile, tokens.join('\n'))
  return {
    server,
    directory: join(directory, 'data'),
    key,
    tokensFile,
    drain: async () => { await server.api(key).drain(drainTimeoutMs) },
    stop: async () => {
      const code = await server.stop(120_000)
      if (code !== 0) throw new Error(`the server stopped with ${String(code)}\n${server.errorText}`)
    },
    remove: async () => {
      if (server.running) await server.kill()
      await removeDirectory()
    }
  }
}
