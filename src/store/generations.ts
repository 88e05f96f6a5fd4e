/** The order of seals' generations (raw-store.ts). */
import type { Generation } from './raw-store.js'

/** By epoch, then sequence: negative where `a` is lower. */
export function compareGenerations (a: Generation, b: Generation): number {
  return a.epoch - b.epoch || a.sequence - b.sequence
}
