/** What the routes of imports, exports and deletions ask of the transfer service. */
import type { Readable } from 'node:stream'
import { TwinfoldError } from '../../core/errors.js'
import type { Job } from '../../store/job-store.js'
import type { Page } from '../../store/registry.js'
import type { ExportRequest } from '../../transfer/export-source.js'
import type { EraseRequest } from '../../transfer/transfer-service.js'
import type { ImportSettings } from '../../../workers/transfer-protocol.js'
import type { EdgeContext } from './edge-context.js'

export interface TransferSource {
  import(tenant: string, settings: ImportSettings, stream: Readable, encoding: { readonly gzip: boolean }): Promise<Job>
  export(request: ExportRequest): Promise<Readable>
  erase(request: EraseRequest): Promise<Job>
  list(tenant: string, cursor: string | null, limit: number): Promise<Page<Job>>
  get(tenant: string, id: string): Promise<Job | null>
  cancel(job: Job): Promise<boolean>
  /** The job as it is answered. */
  view(job: Job): object
}

/** @throws TwinfoldError `not_ready` where the server was made without it. */
export function transferOf (context: EdgeContext): TransferSource {
  const { transfer } = context.options
  if (transfer === undefined) throw new TwinfoldError('not_ready', 'this server transfers nothing')
  return transfer
}
