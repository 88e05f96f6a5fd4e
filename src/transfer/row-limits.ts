/** Limits of imports and exports, each with what happens at it. */
const KIB = 1024
const MIB = 1024 * KIB

/** A piece of an import ends with this many rows, points or bytes of the file: bounds the memory of the thread and one write. */
export const pieceRowsMax = 65_536
export const piecePointsMax = 1_000_000
export const pieceBytesMax = 16 * MIB
/** A record (line) of the file; a longer one is refused. */
export const recordBytesMax = MIB
/** Columns of a file; more fail the import, or the export. */
export const wideColumnsMax = 2000
/** Malformed rows of one import that are kept as dead letters; more are counted. */
export const lettersPerImportMax = 1000
/** Refused rows that the job names. */
export const samplesPerJobMax = 20
/** Imports of a tenant that are not finished; one more gets 409. */
export const openImportsPerTenantMax = 20
/** Deletions of a tenant that are not finished; one more gets 409. */
export const openDeletionsPerTenantMax = 1000
/** Messages with bytes that an export's thread may be ahead of the client, and their size. */
export const exportAheadMax = 8
export const exportMessageBytes = 64 * KIB
