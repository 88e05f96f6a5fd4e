/** The surface of the pyramid's pure part: fold, combine, encode, sketch. */
export * from './windows.js'
export { TierFolder, type FolderOptions } from './tier-folder.js'
export { foldWindows, foldWindowsAt, joinWindows, sliceWindows } from './combine.js'
export { decodeTierRow, decodeTierRows, encodeTierRow } from './row-codec.js'
export { tierFormatVersion } from './row-frame.js'
export { nearestRank, relativeError, Sketch } from './sketch.js'
export { foldSketches, joinSketches, SketchFolder, type SeriesSketches, type SketchWindows } from './sketch-fold.js'
export { decodeSketchRow, decodeSketchRows, encodeSketchRow } from './sketch-codec.js'
