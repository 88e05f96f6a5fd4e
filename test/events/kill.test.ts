/** The server dies in the middle of deliveries: every event arrives at least once, each device in order. */
import t from 'tap'
import { fork, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { randomInt } from 'node:crypto'
import { seededRandom } from '../../simulators/fleet/seeded-random.js'
import { temporaryDirectory } from '../support/server.js'
import { disordered, newReceiver } from './events-bench.js'

t.setTimeout(60_000)

const tenant = 'acme'

t.test('a server that is killed between a delivery and its cursor delivers again, and loses nothing', async t => {
  const seed = randomInt(2 ** 31)
  t.comment(`seed ${seed}`)
  const random = seededRandom(seed)
  const { directory, remove } = await temporaryDirectory('events-kill')
  t.teardown(remove)
  const receiver = await newReceiver(t)
  // One answer in fifty is a failure, some are slow.
  receiver.behave = () => random() < 0.02 ? 503 : { status: 200, waitMs: random() < 0.1 ? 20 : 0 }
  let appended = 0
  const acknowledged: number[] = []
  let child: ChildProcess | null = null
  t.teardown(() => { child?.kill('SIGKILL') })
  const start = async (): Promise<ChildProcess> => {
    const started = fork(fileURLToPath(new URL('./events-server.js', import.meta.url)), [directory, tenant, receiver.url, String(appended + 1)], { execArgv: [], env: Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('TAP') && name !== 'NODE_OPTIONS')) })
    child = started
    started.on('message', ({ appended: number }: { appended?: number }) => {
      if (number === undefined) return
      appended = Math.max(appended, number)
      acknowledged.push(number)
    })
    await once(started, 'message')
    return started
  }
  const kills = 3
  for (let round = 0; round < kills; round++) {
    const running = await start()
    await new Promise(resolve => { setTimeout(resolve, 200 + random() * 500) })
    const exited = once(running, 'exit')
    running.kill('SIGKILL')
    await exited
    // It may have died between the write and its word about it.
    appended += 1
  }
  const last = await start()
  const stopped = new Promise<void>(resolve => { last.on('message', (message: { stopped?: boolean }) => { if (message.stopped === true) resolve() }) })
  last.send('stop')
  await stopped
  const of = (path: string): typeof receiver.events => receiver.taken.filter(received => received.path.endsWith(path)).flatMap(({ events }) => events)
  for (const path of ['single', 'batch']) {
    await receiver.until(() => new Set(of(path).filter(({ data }) => data.number === appended).map(({ id }) => id)).size === 8, 20_000)
    const ids = new Set(of(path).map(({ id }) => id))
    t.same(disordered(of(path)), [], `${path}: in order`)
    const missing = acknowledged.filter(number => Array.from({ length: 8 }, (_, i) => `${tenant}/d${i}/${number}`).some(id => !ids.has(id)))
    t.same(missing, [], `${path}: nothing that was durable is missing`)
    t.comment(`${path}: ${ids.size} events, ${of(path).length - ids.size} came twice, ${kills} kills`)
  }
})
