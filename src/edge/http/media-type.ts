/** Content types of telemetry bodies and the journal's formats they stand for. */
import { TwinfoldError } from '../../core/errors.js'
import { RecordKind } from '../../journal/record.js'

const formats: ReadonlyMap<string, RecordKind> = new Map<string, RecordKind>([
  ['application/json', RecordKind.bodyAuto],
  ['application/octet-stream', RecordKind.bodyAuto],
  ['application/x-ndjson', RecordKind.bodyNdjson],
  ['application/ndjson', RecordKind.bodyNdjson],
  ['application/senml+json', RecordKind.bodySenmlJson],
  ['application/senml+cbor', RecordKind.bodySenmlCbor],
  ['application/cbor', RecordKind.bodyCbor]
])

export const telemetryMediaTypes: readonly string[] = [...formats.keys()]

/**
 * The format of a body. No content type: the content says what it is.
 * @throws TwinfoldError `unsupported_media_type`
 */
export function formatOf (contentType: string | undefined): RecordKind {
  if (contentType === undefined) return RecordKind.bodyAuto
  const known = formats.get(contentType)
  if (known !== undefined) return known
  const [essence, ...parameters] = contentType.split(';').map(part => part.trim().toLowerCase())
  const format = formats.get(essence)
  if (format === undefined) {
    const hint = essence === 'application/x-www-form-urlencoded' ? ' (curl sends this unless told -H "Content-Type: application/json")' : ''
    throw new TwinfoldError('unsupported_media_type', `telemetry is one of ${telemetryMediaTypes.join(', ')}${hint}`, { field: 'Content-Type' })
  }
  for (const parameter of parameters) {
    if (/^charset=/.test(parameter) && !/^charset="?utf-?8"?$/.test(parameter)) {
      throw new TwinfoldError('unsupported_media_type', 'telemetry is UTF-8', { field: 'Content-Type' })
    }
  }
  return format
}

/** @throws TwinfoldError `unsupported_media_type` for a compressed body. */
export function requirePlain (contentEncoding: string | undefined): void {
  if (contentEncoding === undefined || contentEncoding.toLowerCase() === 'identity') return
  throw new TwinfoldError('unsupported_media_type', 'compressed bodies are not accepted; send the body without Content-Encoding', { field: 'Content-Encoding' })
}
