/**
 * `twinfold verify`: recomputes the tiers of sealed buckets from raw and reports every difference (INVARIANTS 4). It reads only. On
 * the embedded store the server must be stopped, because one process has the directory; on the cluster it runs beside the servers.
 */
import type { Clock } from './core/clock.js'
import { TwinfoldError } from './core/errors.js'
import type { Log } from './core/log.js'
import type { Config } from './config.js'
import { verifyStore, type Difference, type VerifyResult } from './sealing/verify.js'
import { openStore } from './store/open-store.js'
import { storeSpec } from './store-spec.js'

export interface VerifyArguments {
  readonly tenant?: string
  readonly device?: string
  /** ISO 8601 or ms since the epoch. */
  readonly from?: string
  readonly to?: string
  /** A JSON object a line instead of words. */
  readonly json?: boolean
}

export interface VerifyOutput {
  /** A difference, or the sums at the end. */
  line(text: string): void
  /** How far it is. */
  progress(text: string): void
}

/**
 * Returns the exit code: 0 where nothing differs, 1 where something does.
 * @throws TwinfoldError `invalid_field` for a time that is none, `not_found` for a tenant, `store_unavailable`.
 */
export async function verifyCommand (config: Config, given: VerifyArguments, output: VerifyOutput, { clock, log }: { clock: Clock, log: Log }): Promise<number> {
  const fromTs = timeOf('from', given.from)
  const toTs = timeOf('to', given.to)
  if (given.device !== undefined && given.tenant === undefined) throw new TwinfoldError('invalid_field', '--device needs --tenant', { field: 'device' })
  const store = await openForReading(config, { clock, log })
  try {
    if (given.tenant !== undefined && await store.getTenant(given.tenant) === null) throw new TwinfoldError('not_found', `there is no tenant '${given.tenant}'`)
    const result = await verifyStore(store, {
      tenant: given.tenant,
      device: given.device,
      fromTs,
      toTs,
      nowUs: clock.nowUs(),
      onDifference: difference => { output.line(given.json === true ? JSON.stringify({ difference }) : differenceText(difference)) },
      onProgress: sums => { output.progress(sumsText(sums)) }
    })
    output.line(given.json === true ? JSON.stringify({ result: { ...result, listed: undefined } }) : sumsText(result))
    return result.differences === 0 ? 0 : 1
  } finally {
    await store.close()
  }
}

async function openForReading (config: Config, tools: { clock: Clock, log: Log }): ReturnType<typeof openStore> {
  try {
    return await openStore(storeSpec(config), { ...tools, writer: true })
  } catch (error) {
    if (config.profile === 'embedded' && error instanceof TwinfoldError && error.code === 'store_unavailable') {
      throw new TwinfoldError('store_unavailable', `${error.message}; stop the server that uses ${config.dataDirectory} before verifying it`, { cause: error })
    }
    throw error
  }
}

function timeOf (name: string, text: string | undefined): number | undefined {
  if (text === undefined) return undefined
  const ms = /^[0-9]+$/.test(text) ? Number(text) : Date.parse(text)
  if (!Number.isFinite(ms)) throw new TwinfoldError('invalid_field', `--${name} '${text}' is no time: ISO 8601, or milliseconds since 1970`, { field: name })
  return ms * 1000
}

const isoOf = (us: number): string => new Date(us / 1000).toISOString()

export function differenceText ({ tenant, device, kind, start, what, metric, field, stored, recomputed, bucketStart, bucketWidthMinutes }: Difference): string {
  const where = `tenant=${tenant} device=${device} kind=${kind} start=${isoOf(start)} bucket=${isoOf(bucketStart)}/${bucketWidthMinutes}m`
  return field === undefined ? `${where} ${what}` : `${where} ${what} metric=${metric ?? ''} field=${field} stored=${stored ?? ''} recomputed=${recomputed ?? ''}`
}

function sumsText ({ devices, buckets, unsealed, rows, points, differences }: Omit<VerifyResult, 'listed'>): string {
  return `${devices} devices, ${buckets} sealed buckets (${unsealed} not sealed yet), ${rows} tier rows, ${points} points: ${differences} differences`
}
