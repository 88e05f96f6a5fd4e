/**
 * Port: what the servers of one installation know of each other (DESIGN 3.8). Every node says about once a second that it
 * lives; who has not said so for a lease counts as gone. Nothing here decides what is true of the data: it may be flushed or
 * unreachable at any time, and the nodes then go on with what they knew.
 */
export interface NodeBeat {
  /** Of configuration; one running server a name. */
  readonly name: string
  /** Random, new at every start of the server. */
  readonly bootId: string
  readonly journalId: string
  /** Greatest accept stamp that the journal gave out, µs. */
  readonly stampLast: number
  /** The node's wall clock, µs. */
  readonly wallUs: number
  /** How far its wall clock is ahead of the cluster's (negative: behind), ms; null while it does not know. */
  readonly clockOffsetMs: number | null
  /** `off`: further than allowed. Stamps of a node that is not `ok` move no other journal. */
  readonly clock: 'ok' | 'off' | 'unknown'
  readonly startedAtUs: number
}

export interface NodeSeen extends NodeBeat {
  /** Time since its last beat, by the cluster's clock, ms. */
  readonly silentMs: number
}

export interface BeatAnswer {
  /** The cluster's clock at some moment between question and answer, µs. */
  readonly clusterUs: number
  /** Every node heard of within a day, this one included, by name; at most `nodesMax`. */
  readonly nodes: readonly NodeSeen[]
  /** The boot id that stood under the name before this beat; null where none did. */
  readonly replacedBootId: string | null
}

export interface NodeStore {
  /** Says that the node lives and asks for all others, in one round trip. Rejects with `store_unavailable`. */
  beat(beat: NodeBeat): Promise<BeatAnswer>
  /** All nodes, without saying anything: for tools beside the servers. Rejects with `store_unavailable`. */
  seen(): Promise<readonly NodeSeen[]>
  /** A clean stop: the node is gone at once. Nothing where another boot has taken the name. */
  leave(name: string, bootId: string): Promise<void>
}

/** Nodes remembered; beyond, those that were silent longest are forgotten. */
export const nodesMax = 256
