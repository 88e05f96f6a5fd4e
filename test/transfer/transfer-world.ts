/** A server with tenants and devices, and what tests of transfers ask of it. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import type { Test } from 'tap'
import { startServer, testAdminKey, type TestServer } from '../support/server.js'

export interface JobAnswer {
  readonly id: string
  readonly state: string
  readonly detail: string
  readonly progress: number | null
  readonly import: { readonly rows: number, readonly points: number, readonly refusedRows: number, readonly refused: Record<string, number>, readonly samples: { line: number, reason: string, detail: string }[], readonly deadLetters: number, readonly types: Record<string, number> }
  readonly delete: { readonly steps: Record<string, string>, readonly buckets: number }
}

export class TransferWorld {
  server: TestServer
  readonly directory: string
  readonly #settings: Readonly<Record<string, string>>

  private constructor (server: TestServer, directory: string, settings: Readonly<Record<string, string>>) {
    this.server = server
    this.directory = directory
    this.#settings = settings
  }

  static async open (t: Test, settings: Readonly<Record<string, string>> = {}): Promise<TransferWorld> {
    const directory = await mkdtemp(join(tmpdir(), 'twinfold-transfer-'))
    const world = new TransferWorld(await startServer({ directory, settings }), directory, settings)
    t.teardown(async () => {
      if (!world.server.running) t.comment(`the server ended: ${world.server.errorText}`)
      await world.server.stop()
      await rm(directory, { recursive: true, force: true })
    })
    return world
  }

  /** SIGKILL, and a new start. */
  async killAndRestart (): Promise<void> {
    await this.server.kill()
    this.server = await startServer({ directory: this.directory, settings: this.#settings })
  }

  async raw (method: string, tenant: string, path: string, body?: string | Uint8Array, headers: Record<string, string> = {}): Promise<Response> {
    return await fetch(`${this.server.httpUrl}/api/v1${path}`, { method, headers: { authorization: `Bearer ${testAdminKey}`, ...(tenant === '' ? {} : { 'x-tenant': tenant }), ...headers }, ...(body === undefined ? {} : { body, duplex: 'half' }) } as RequestInit)
  }

  async json (method: string, tenant: string, path: string, body?: object): Promise<Record<string, unknown> & { status: number }> {
    const answer = await this.raw(method, tenant, path, body === undefined ? undefined : JSON.stringify(body), body === undefined ? {} : { 'content-type': 'application/json' })
    return { ...await answer.json() as object, status: answer.status }
  }

  async tenant (id: string, devices: readonly string[]): Promise<void> {
    await this.json('POST', '', '/tenants', { id, name: id, retentionDays: 36_500 })
    for (const device of devices) await this.json('POST', id, '/devices', { id: device })
  }

  /** Sends a file and waits for its job. */
  async import (tenant: string, file: string | Uint8Array, format: string, query = ''): Promise<JobAnswer> {
    const answer = await this.raw('POST', tenant, `/imports?format=${format}${query}`, file, { 'content-type': 'application/octet-stream' })
    const job = await answer.json() as JobAnswer
    if (answer.status !== 202) throw new Error(`${answer.status} ${JSON.stringify(job)}`)
    return await this.finished(tenant, job.id)
  }

  async job (tenant: string, id: string): Promise<JobAnswer> {
    return await (await this.raw('GET', tenant, `/jobs/${id}`)).json() as JobAnswer
  }

  async finished (tenant: string, id: string, timeoutMs = 120_000): Promise<JobAnswer> {
    for (const until = performance.now() + timeoutMs; ;) {
      const job = await this.job(tenant, id)
      if (['done', 'failed', 'cancelled'].includes(job.state)) return job
      if (performance.now() > until) throw new Error(`the job is not finished: ${JSON.stringify(job)}`)
      await pause(100)
    }
  }

  async export (tenant: string, query: string): Promise<Buffer> {
    const answer = await this.raw('GET', tenant, `/exports?devices=all&from=1970-01-01&to=2200-01-01&${query}`)
    const body = Buffer.from(await answer.arrayBuffer())
    if (answer.status !== 200) throw new Error(`${answer.status} ${body.toString()}`)
    return body
  }
}
