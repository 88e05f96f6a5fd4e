import t from 'tap'
import { BodyDecoder } from '../../src/pipeline/decode/body.js'
import { SliceTable } from '../../src/pipeline/slice-table.js'
import { RecordKind } from '../../src/journal/record.js'

const stamp = 1_700_000_000_000_000
const batch = '[{"a":1},{"a":2},{"a":3}]'

/** Timestamps that the bodies' readings get in one slice, in order. */
function timestamps (bodies: readonly { readonly text: string, readonly stamp: number, readonly exact: boolean }[]): number[][] {
  const table = new SliceTable()
  const decoder = new BodyDecoder(table)
  const lastUnstamped = new Map<number, number>()
  return bodies.map(({ text, stamp: at, exact }) => {
    const bytes = Buffer.from(text)
    const before = table.rows
    decoder.decode(RecordKind.bodyAuto, bytes, 0, bytes.length, {
      table, tenant: 't', device: 'd', deviceNumber: table.deviceNumber('t', 'd'), multiDevice: false, stamp: at, oldestTs: 0, newestTs: Infinity, lastUnstamped, exact, refuse: () => {}, deviceAllowed: () => true
    })
    return Array.from(table.rowTs.subarray(before, table.rows))
  })
}

void t.test('readings without ts of a reserved request get the same timestamps in every slice of every journal', async t => {
  const expected = [stamp, stamp + 1, stamp + 2]
  const reserved = { text: batch, stamp, exact: true }
  t.same(timestamps([reserved])[0], expected)
  t.same(timestamps([{ text: batch, stamp: stamp - 1, exact: false }, reserved])[1], expected, 'whatever the device sent before')
  t.same(timestamps([reserved, reserved]), [expected, expected], 'and however often')
})

void t.test('other readings of the slice keep clear of a reserved request before them', async t => {
  const [, other] = timestamps([{ text: batch, stamp, exact: true }, { text: batch, stamp: stamp + 1, exact: false }])
  t.same(other, [stamp + 3, stamp + 4, stamp + 5])
})
