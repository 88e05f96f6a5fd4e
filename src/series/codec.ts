/** The chunk codec's surface; see FORMAT.md. */
export { encodeChunk, decodeChunk, readChunkHeader } from './chunk.js'
export { encodeSlab, readSlabDirectory, decodeSlabDevice, decodeSlab } from './slab.js'
