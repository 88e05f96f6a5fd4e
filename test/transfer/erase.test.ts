/** Erased: nothing of it in any answer at once, nor in tiers and exports after the seal; late replays stay erased, new points live. */
import { setTimeout as pause } from 'node:timers/promises'
import t from 'tap'
import { TransferWorld } from './transfer-world.js'

t.setTimeout(300_000)
const day = Math.floor((Date.now() - 3 * 86_400_000) / 86_400_000) * 86_400_000

async function seen (world: TransferWorld, device: string): Promise<{ csv: string, hours: string, latest: string, range: string }> {
  const text = async (path: string): Promise<string> => await (await world.raw('GET', 'acme', path)).text()
  const scope = `devices=${device}&from=${day}&to=${day + 86_400_000}`
  return {
    csv: await text(`/exports?${scope}&format=csv&shape=long`),
    hours: await text(`/exports?${scope}&format=csv&tier=1h`),
    latest: await text(`/devices/${device}/telemetry/latest`),
    range: await text(`/devices/${device}/telemetry?from=${day}&to=${day + 86_400_000}&limit=10000`)
  }
}

t.test('a metric, a range, a device: gone from every answer at once, and still after the job is done', { timeout: 280_000 }, async t => {
  const world = await TransferWorld.open(t)
  await world.tenant('acme', ['d1', 'd2', 'd3'])
  let file = 'device,ts,secret,open\n'
  for (const device of ['d1', 'd2', 'd3']) for (let i = 0; i < 600; i++) file += `${device},${day + i * 60_000},${1000 + i},${i}\n`
  t.match(await world.import('acme', file, 'csv'), { state: 'done', import: { points: 3600 } })
  const erase = async (device: string, query: string): Promise<string> => (await (await world.raw('DELETE', 'acme', `/devices/${device}/telemetry${query}`)).json() as { id: string }).id
  const jobs = [await erase('d1', '?metrics=secret'), await erase('d2', `?from=${day}&to=${day + 3_600_000 * 2}`), await erase('d3', '')]
  const check = async (when: string): Promise<void> => {
    const [d1, d2, d3] = [await seen(world, 'd1'), await seen(world, 'd2'), await seen(world, 'd3')]
    for (const [name, text] of Object.entries(d1)) t.notMatch(text, /secret/, `${when}: ${name} of a metric`)
    t.equal(d1.csv.trim().split('\n').length, 601, `${when}: the other metric stays`)
    t.equal(d1.hours.trim().split('\n').length, 11)
    t.equal(d2.csv.trim().split('\n').length, 1 + 480 * 2, `${when}: what lies outside the range stays`)
    t.equal(d2.hours.trim().split('\n').length, 1 + 8 * 2)
    t.equal((JSON.parse(d2.range) as { readings: unknown[] }).readings.length, 480)
    t.strictSame([d3.csv.trim().split('\n').length, d3.hours.trim().split('\n').length, (JSON.parse(d3.latest) as { latest: object }).latest], [1, 1, {}], `${when}: a device`)
  }
  await check('at once')
  for (const id of jobs) {
    const job = await world.finished('acme', id, 200_000)
    t.match(job, { state: 'done', delete: { steps: { raw: 'done', tiers: 'done', journal: 'done' } } }, JSON.stringify(job))
  }
  await check('after the job')
  await world.killAndRestart()
  await check('after a crash')
  t.match(await world.import('acme', `device,ts,secret,open\nd1,${day + 30_000},5,6\nd2,${day + 30_000},5,6\nd3,${day + 30_000},5,6\n`, 'csv'), { import: { points: 6 } })
  for (const [device, rows] of [['d1', 603], ['d2', 963], ['d3', 3]] as const) t.equal((await seen(world, device)).csv.trim().split('\n').length, rows, `${device}: new points of the same range live`)
  const gone = await world.json('DELETE', 'acme', '/devices/d1')
  t.match(gone, { deleted: true, job: String })
  t.match(await world.finished('acme', String(gone.job), 200_000), { state: 'done' })
})

t.test('kill -9 in the middle of an import: it goes on, and every row is there once', { timeout: 280_000 }, async t => {
  const world = await TransferWorld.open(t)
  await world.tenant('acme', ['d1', 'd2'])
  const rows = 300_000
  const lines = ['device,ts,n\n']
  for (let i = 0; i < rows; i++) lines.push(`d${1 + i % 2},${day + i * 250},${i}\n`)
  const answer = await world.raw('POST', 'acme', '/imports?format=csv', lines.join(''))
  const { id } = await answer.json() as { id: string }
  let kills = 0
  for (let last = 0; kills < 2;) {
    const job = await world.job('acme', id)
    if (job.state === 'done') break
    if (job.import.rows > last) {
      last = job.import.rows
      // Somewhere inside the next piece.
      await pause(Math.random() * 400)
      await world.killAndRestart()
      kills++
    }
    await pause(10)
  }
  const job = await world.finished('acme', id)
  t.match(job, { state: 'done', import: { rows, points: rows, refusedRows: 0 } }, JSON.stringify(job))
  t.ok(kills > 0, `killed ${kills} times`)
  const csv = (await world.export('acme', 'format=csv&shape=long&times=ms')).toString().trim().split('\n').slice(1)
  t.equal(csv.length, rows)
  const values = new Set(csv.map(line => line.split(',').slice(-1)[0]))
  t.equal(values.size, rows)
  t.equal(await (await world.raw('DELETE', 'acme', `/jobs/${id}`)).status, 202)
  t.match(await world.job('acme', id), { state: 'done' })
})
