/**
 * Process entry of the embedded analytics engine: real ClickHouse as a library, apart from the server, which it can then neither block
 * nor crash (DESIGN 3.5). It ends when the server does, however that ends: the channel between them closes.
 */
import { randomUUID } from 'node:crypto'
import { mkdirSync, rmSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { Engine, loadEngine } from '../src/store/embedded/analytics/engine.js'
import { createEngineServer } from '../src/store/embedded/analytics/engine-http.js'
import { engineArguments } from '../src/store/embedded/analytics/engine-arguments.js'
import type { EngineMessage, EngineStart } from './analytics-engine-protocol.js'

const start = JSON.parse(process.argv[2]) as EngineStart

/** Without a farewell to the engine: everything it answered for is on disk, and closing it under a query would end worse. */
function end (): void {
  rmSync(dirname(start.socketPath), { recursive: true, force: true })
  process.kill(process.pid, 'SIGKILL')
}

function tell (message: EngineMessage): void {
  process.send?.(message)
}

process.on('disconnect', end)
process.on('SIGTERM', end)
// Of a terminal's Ctrl-C the server hears as well, and ends this process when it is done with it.
process.on('SIGINT', () => {})

try {
  const uploads = join(start.directory, 'uploads')
  rmSync(uploads, { recursive: true, force: true })
  mkdirSync(uploads, { recursive: true })
  const open = await loadEngine(join(start.directory, 'engine'), engineArguments(start))
  // Held for ever: the engine stays loaded between requests.
  const anchor = open()
  await anchor.queryAsync('SELECT 1', { format: 'TabSeparated' })
  const engine = new Engine(open, {
    write: async body => {
      const file = join(uploads, randomUUID())
      await writeFile(file, body)
      return file
    },
    remove: file => { rmSync(file, { force: true }) }
  })
  rmSync(start.socketPath, { force: true })
  const server = createEngineServer(engine)
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen(start.socketPath, resolve)
  })
  tell({ kind: 'ready' })
} catch (error) {
  const { code, message } = error as { code?: string, message: string }
  tell({ kind: code === 'analytics_unavailable' ? 'missing' : 'failed', reason: message })
  setTimeout(() => { process.exit(1) }, 100)
}
