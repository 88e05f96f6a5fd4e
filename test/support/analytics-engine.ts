/** The embedded profile's ClickHouse for one test: a child process of the test's own, in a directory that goes with it. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { systemClock } from '../../src/core/clock.js'
import { silentLog, type Log } from '../../src/core/log.js'
import { embeddedAnalyticsEngine, type EngineProcess } from '../../src/store/open-analytics.js'

export interface TestEngine {
  readonly engine: EngineProcess
  readonly directory: string
  close (): Promise<void>
}

/** Started and answering. @throws Error where chdb is not there. */
export async function startTestEngine (options: { directory?: string, log?: Log, memoryBytesMax?: number } = {}): Promise<TestEngine> {
  const directory = options.directory ?? mkdtempSync(join(tmpdir(), 'twinfold-engine-'))
  const engine = embeddedAnalyticsEngine({ directory, memoryBytesMax: options.memoryBytesMax ?? 1024 ** 3, threads: 2, log: options.log ?? silentLog, monotonicMs: systemClock.monotonicMs })
  engine.start()
  const state = await engine.settled(30_000)
  if (state !== 'up') throw new Error(`the engine is ${state}: ${engine.reason}`)
  return {
    engine,
    directory,
    close: async () => {
      await engine.close()
      if (options.directory === undefined) rmSync(directory, { recursive: true, force: true })
    }
  }
}
