/**
 * Port: what nodes tell each other about live readings, and for which devices they ring. Nothing is stored: what was sent while a node
 * could not hear is lost, and `link` says when that was. An installation of one node has none.
 */

export interface LiveBusListener {
  /** What others send is heard from now on, or no longer. */
  link(up: boolean): void
  /** Also what this node sent to all. */
  message(text: string): void
}

export interface LiveBus {
  /** Differs from node to node and from start to start. */
  readonly nodeId: string
  open(listener: LiveBusListener): void
  /** To one node, or to all (null). False where it could not be sent, or where too much is on its way already. Never rejects. */
  send(to: string | null, text: string): Promise<boolean>
  close(): Promise<void>
}
