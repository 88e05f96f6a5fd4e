/** What the projection into search has come to, as it is stored: how far each lane was read, and whether the tables were ever filled. */
import { eventLanes } from '../store/event-log.js'
import type { SettingsStore } from '../store/small-stores.js'

export interface ProjectionState {
  /** Positions by lane, all that lies before them is projected; null: none yet. */
  readonly positions: readonly string[] | null
  /** Every event up to this time is projected, µs. */
  readonly upTo: number
  /** Stamp of the fill that is in the tables, µs; 0: none. */
  readonly filled: number
  /** A fill that is under way, and where it goes on. */
  readonly fill: FillState | null
}

export interface FillState {
  /** µs */
  readonly stamp: number
  readonly tenant: string
  readonly cursor: string | null
  readonly devices: number
}

const stateSetting = 'search-state'
const wantedSetting = 'search-fill-wanted'
const none: ProjectionState = { positions: null, upTo: 0, filled: 0, fill: null }

export async function readState (settings: Pick<SettingsStore, 'getSetting'>): Promise<ProjectionState> {
  const text = await settings.getSetting(stateSetting)
  if (text === null || text === '') return none
  const state = JSON.parse(text) as ProjectionState
  return state.positions?.length === eventLanes ? state : { ...none, filled: state.filled }
}

export async function writeState (settings: Pick<SettingsStore, 'putSetting'>, state: ProjectionState): Promise<void> {
  await settings.putSetting(stateSetting, JSON.stringify(state))
}

/** Asks whichever node projects to fill search anew, now or when it starts; `twinfold rebuild analytics` does. */
export async function wantFill (settings: Pick<SettingsStore, 'putSetting'>, nowUs: number): Promise<void> {
  await settings.putSetting(wantedSetting, String(nowUs))
}

/** µs; 0: never asked for. */
export async function wantedFill (settings: Pick<SettingsStore, 'getSetting'>): Promise<number> {
  return Number(await settings.getSetting(wantedSetting) ?? 0)
}
