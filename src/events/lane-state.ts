/**
 * How far a sink has got in one lane, as it is kept (collection `webhook-state`, one document a sink and lane, written by the node that
 * serves the lane). Format 1.
 */
import { TwinfoldError } from '../core/errors.js'

/** Where a sink begins: at events from that time on. A greater number is a newer order (a replay, or a sink that is switched on again). */
export interface SinkStart {
  /** µs; grows with each. */
  readonly number: number
  /** µs */
  readonly fromUs: number
}

export interface Attempt {
  /** µs */
  readonly at: number
  /** How long the sink took, ms. */
  readonly ms: number
  readonly events: number
  /** Of the first event. */
  readonly id: string
  readonly outcome: 'delivered' | 'again' | 'refused' | 'gone'
  /** What the sink said; '' where it took the delivery. */
  readonly reason: string
}

export interface LaneState {
  /** Everything up to here was delivered, refused for good, or not wanted. */
  position: string
  /** Ids of events behind the position that are done as well, where the log had put events into their order (store/in-sequence.ts). */
  done: string[]
  start: SinkStart
  /** Attempts at the next delivery that have failed. */
  attempts: number
  /** Of them, those that were refused for good. */
  refusals: number
  /** µs; when the sink began to fail; 0: it does not. */
  failingSinceUs: number
  /** µs; not before then is it tried again. */
  nextAtUs: number
  /** Where the delivery ends that failed, so that the next attempt carries the same events. '': it did not. */
  batchEnd: string
  /** Up to here each event goes alone: one of these was refused. '' otherwise. */
  singleUntil: string
  delivered: number
  failedAttempts: number
  deadLettered: number
  /** Of the dead letters: those that were too old for the log to keep them. */
  agedOut: number
  /** Newest last. */
  recent: Attempt[]
  /** µs */
  savedUs: number
}

export const attemptsKept = 10

export function newLaneState (position: string, start: SinkStart): LaneState {
  return { position, done: [], start, attempts: 0, refusals: 0, failingSinceUs: 0, nextAtUs: 0, batchEnd: '', singleUntil: '', delivered: 0, failedAttempts: 0, deadLettered: 0, agedOut: 0, recent: [], savedUs: 0 }
}

export function laneStateId (sink: string, lane: number): string { return `${sink}/${String(lane).padStart(2, '0')}` }

export function encodeLaneState (state: LaneState): string { return JSON.stringify({ v: 1, ...state }) }

/** @throws TwinfoldError `format_newer`, `corrupt_data` */
export function decodeLaneState (body: string): LaneState {
  let read: { v?: unknown, position?: unknown }
  try { read = JSON.parse(body) as typeof read } catch { throw new TwinfoldError('corrupt_data', 'the state of a webhook is no JSON') }
  if (typeof read.v !== 'number' || typeof read.position !== 'string') throw new TwinfoldError('corrupt_data', 'the state of a webhook is not complete')
  if (read.v > 1) throw new TwinfoldError('format_newer', 'the state of a webhook was written by a newer version')
  const { v: _, ...state } = read as { v: number } & LaneState
  return { ...newLaneState(read.position, { number: 0, fromUs: 0 }), ...state }
}
