/** `twinfold verify` as an operator runs it. */
import t from 'tap'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { systemClock } from '../../src/core/clock.js'
import { silentLog } from '../../src/core/log.js'
import { usPerHour } from '../../src/core/reading.js'
import { decodeTierRow, encodeTierRow, type NumberWindows } from '../../src/series/tiers/index.js'
import { openStore } from '../../src/store/open-store.js'
import { tierKinds, tierOfKind, type TierRow } from '../../src/store/tier-store.js'
import { tierRetentionDefault } from '../../src/tenancy/model.js'
import { gather } from '../store/store-fixtures.js'
import { startServer, temporaryDirectory } from '../support/server.js'
import { dayAgo, planOfWidth, SealWorld } from './seal-world.js'

t.setTimeout(120_000)

const mainFile = fileURLToPath(new URL('../../src/main.js', import.meta.url))
const start = dayAgo(3)

interface Ended { readonly code: number | null, readonly out: string, readonly err: string }

async function verify (directory: string, ...parameters: string[]): Promise<Ended> {
  const inherited = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('TWINFOLD_') && !name.startsWith('TAP') && name !== 'NODE_OPTIONS'))
  const child = spawn(process.execPath, [mainFile, 'verify', ...parameters], { stdio: ['ignore', 'pipe', 'pipe'], env: { ...inherited, TWINFOLD_DATA: directory, TWINFOLD_LOG: 'warn' } })
  let out = ''
  let err = ''
  child.stdout.on('data', (bytes: Buffer) => { out += bytes.toString() })
  child.stderr.on('data', (bytes: Buffer) => { err += bytes.toString() })
  const [code] = await once(child, 'close') as [number | null]
  return { code, out, err }
}

void t.test('verify ends with 0 where tiers equal the fold of raw, with 1 and a line for every window that does not, and says when a server is in the way', async t => {
  const { directory, remove } = await temporaryDirectory('verify')
  t.teardown(remove)
  const spec = { kind: 'embedded', directory: join(directory, 'store') } as const
  const opened = async () => await openStore(spec, { clock: systemClock, log: silentLog, writer: true })
  let store = await opened()
  const world = await SealWorld.make(store, { tenant: 'acme', devices: new Map([['d', planOfWidth(1440)], ['e', planOfWidth(60)]]) })
  await world.send(['d', 'e'].flatMap(device => Array.from({ length: 200 }, (_, i) => ({ device, ts: start + i * 60e6, values: { v: i / 10, on: i % 2 === 0, s: i % 3 === 0 ? 'a' : 'b' } }))))
  await world.sealer().sealDue()
  await store.close()

  const clean = await verify(directory)
  t.equal(clean.code, 0, clean.out + clean.err)
  t.match(clean.out, /^2 devices, 5 sealed buckets \(0 not sealed yet\), \d+ tier rows, 1200 points: 0 differences\n$/)

  store = await opened()
  const bucket = { start, widthMinutes: 1440 } as const
  const ref = { tenant: 'acme', device: 'd', bucket, retentionDays: [365], salts: 1 }
  const sealed = await store.raw.readSealed(ref)
  const rows: TierRow[] = []
  for (const kind of tierKinds) rows.push(...await gather(store.tiers.scanTiers({ tenant: 'acme', device: 'd', retentionDays: [tierRetentionDefault[tierOfKind(kind)]] }, kind, start, start + 24 * usPerHour)))
  const tampered = rows.filter(row => row.kind !== '1d').map(row => {
    if (row.kind !== '1h') return row
    const windows = decodeTierRow(row.bytes).map(series => series.metric === 'v' ? { ...series, sums: (series as NumberWindows).sums.map((sum, i) => i === 1 ? sum + 1 : sum) } : series)
    return { ...row, bytes: encodeTierRow(windows, usPerHour, row.start) }
  })
  if (sealed === null) throw new Error('not sealed')
  await store.raw.writeSealed(ref, { retentionDays: 365 }, {
    ...sealed, generation: { epoch: sealed.generation.epoch + 1, sequence: 1 }, tiers: tampered.map(row => ({ ...row, retentionDays: tierRetentionDefault[tierOfKind(row.kind)] }))
  })
  await store.close()

  const found = await verify(directory)
  t.equal(found.code, 1, found.out + found.err)
  const lines = found.out.trimEnd().split('\n')
  const iso = (us: number): string => new Date(us / 1000).toISOString()
  t.ok(lines.some(line => line.startsWith(`tenant=acme device=d kind=1h start=${iso(start + usPerHour)} bucket=${iso(start)}/1440m values metric=v field=number sums stored=`)), found.out)
  t.ok(lines.includes(`tenant=acme device=d kind=1d start=${iso(start)} bucket=${iso(start)}/1440m missing`), found.out)
  t.match(lines.at(-1), / 2 differences$/)
  t.equal((await verify(directory, '--tenant', 'acme', '--device', 'e')).code, 0, 'the other device is well')
  const json = await verify(directory, '--tenant', 'acme', '--device', 'd', '--json')
  t.equal(json.code, 1)
  t.match(json.out.trimEnd().split('\n').map(line => JSON.parse(line) as unknown).at(-1), { result: { buckets: 1, differences: 2 } })
  const unknown = await verify(directory, '--tenant', 'nobody')
  t.equal(unknown.code, 2)
  t.match(unknown.err, /there is no tenant 'nobody'/)
  t.equal((await verify(directory, '--tenant', 'acme', '--from', 'soon')).code, 2)

  const server = await startServer({ directory, settings: { TWINFOLD_ANALYTICS: 'off' } })
  t.teardown(async () => { await server.kill() })
  const refused = await verify(directory)
  t.equal(refused.code, 2)
  t.match(refused.err, /stop the server that uses .* before verifying it/)
  t.equal(refused.out, '')
  t.equal(await server.stop(), 0)
})
