/** What LevelDB reports, as faults of the one table (core/errors.ts). */
import { TwinfoldError } from '../../core/errors.js'

interface LevelError { readonly code?: string, readonly message?: string, readonly cause?: unknown }

/** LevelDB's code stands in the error, or in its cause where the database could not be opened. */
export function levelCodes (error: unknown): string[] {
  const codes: string[] = []
  for (let at = error as LevelError | undefined; at !== undefined && at !== null && codes.length < 4; at = at.cause as LevelError | undefined) {
    if (typeof at.code === 'string') codes.push(at.code)
  }
  return codes
}

function rootMessage (error: unknown): string {
  let message = ''
  for (let at = error as LevelError | undefined, depth = 0; at !== undefined && at !== null && depth < 4; at = at.cause as LevelError | undefined, depth++) {
    if (typeof at.message === 'string') message = at.message
  }
  return message
}

/** True where the fault may be one that LevelDB keeps until it is mended or opened again. */
export function isWriteFault (error: unknown): boolean {
  return levelCodes(error).some(code => code === 'LEVEL_IO_ERROR' || code === 'LEVEL_CORRUPTION')
}

/** @param path of the database inside the store's directory. */
export function storeError (error: unknown, path: string): TwinfoldError {
  if (error instanceof TwinfoldError) return error
  const codes = levelCodes(error)
  if (codes.includes('LEVEL_LOCKED')) {
    return new TwinfoldError('store_unavailable', `the store is in use by another process (lock of ${path}): stop that one, or use another data directory`, { cause: error })
  }
  if (codes.includes('LEVEL_CORRUPTION')) {
    return new TwinfoldError('corrupt_data', `the store's database ${path} is damaged: ${rootMessage(error)}`, { cause: error })
  }
  return new TwinfoldError('store_unavailable', `the store's database ${path} cannot be used: ${rootMessage(error)}`, { cause: error, retryAfterMs: 1000 })
}
