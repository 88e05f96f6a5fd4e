/** Entries are the same bytes in every store: their codec lives beside the ports. */
export { decodeEntry, encodeEntry, type EntrySource } from '../../outbox-codec.js'
