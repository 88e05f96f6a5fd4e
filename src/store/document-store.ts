/**
 * Port: small versioned documents of a tenant: device models, alarm rules, alarms, webhooks. Every write is conditional on the revision
 * that the writer saw. Survives power loss when it resolves.
 */
import { TwinfoldError } from '../core/errors.js'
import type { Page } from './registry.js'

export type DocumentCollection = 'model' | 'alarm-rule' | 'alarm' | 'webhook' | 'webhook-state' | 'webhook-letter' | 'twin-job'

export interface StoredDocument {
  /** At most 400 characters of printable ASCII. */
  readonly id: string
  /** 1 for the first, then one more for each write; starts again when it was deleted. */
  readonly revision: number
  /** JSON, at most `documentBytesMax`. */
  readonly body: string
}

export const documentBytesMax = 256 * 1024
export const documentIdCharsMax = 400

/** What every backend refuses alike. @throws TwinfoldError `invalid_request` */
export function checkDocument (id: string, body: string): void {
  if (!/^[\x20-\x7e]{1,400}$/.test(id)) throw new TwinfoldError('invalid_request', `a document's id has 1 to ${documentIdCharsMax} characters of printable ASCII`)
  if (Buffer.byteLength(body) > documentBytesMax) throw new TwinfoldError('invalid_request', `a document has at most ${documentBytesMax} bytes`)
}

export interface DocumentStore {
  getDocument(collection: DocumentCollection, tenant: string, id: string): Promise<StoredDocument | null>
  /** Writes where the stored revision is `expected` (0: there is none); false where it is not. */
  putDocument(collection: DocumentCollection, tenant: string, id: string, body: string, expected: number): Promise<boolean>
  /** Deletes where the stored revision is `expected`; false where it is not. */
  deleteDocument(collection: DocumentCollection, tenant: string, id: string, expected: number): Promise<boolean>
  /** In order of id; ids that begin with `prefix`. */
  listDocuments(collection: DocumentCollection, tenant: string, prefix: string, cursor: string | null, limit: number): Promise<Page<StoredDocument>>
  /** Tenants that have documents of the collection; ones that had some may be named too. */
  documentTenants(collection: DocumentCollection): Promise<readonly string[]>
}
