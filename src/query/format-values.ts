/** Times and values as queries write them in JSON (core/json-values.ts). */
export { bytesOf, formatTime, formatValue, formatValues } from '../core/json-values.js'
