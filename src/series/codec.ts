/** The chunk codec's surface; see FORMAT.md. */
export { encodeChunk, decodeChunk, readChunkHeader } from './chunk.js'
export { encodeSlab, readSlabDirectory, decodeSlabDevice, decodeSlabRows, decodeSlab } from './slab.js'
