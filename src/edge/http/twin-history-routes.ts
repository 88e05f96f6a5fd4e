/** What a twin was: its changes, newest first, and how two versions differ. */
import type { FastifyInstance, FastifyRequest } from 'fastify'
import { TwinfoldError } from '../../core/errors.js'
import { authorizeHook } from './authorize.js'
import type { EdgeContext } from './edge-context.js'
import { twinDocs } from './twin-docs.js'
import { requireTwin, twinIdOf, twinsOf } from './twin-request.js'
import { changeView, type TimesForm } from './twin-view.js'

const changesDefault = 100

async function listChanges (context: EdgeContext, request: FastifyRequest): Promise<object> {
  const { before, limit = changesDefault, times = 'iso' } = request.query as { readonly before?: number, readonly limit?: number, readonly times?: TimesForm }
  const id = await twinIdOf(context, request)
  // A named twin that was deleted still has its past until it is made again; one that never was has none.
  if (id.name === '') await requireTwin(context, id)
  const changes = await twinsOf(context).changes(id, before ?? null, limit)
  if (changes.length === 0) await requireTwin(context, id)
  const last = changes.at(-1)
  return { changes: changes.map(change => changeView(change, times)), next: last === undefined || changes.length < limit || last.version <= 1 ? null : last.version }
}

async function diffVersions (context: EdgeContext, request: FastifyRequest): Promise<object> {
  const { from, to } = request.query as { readonly from: number, readonly to: number }
  const id = await twinIdOf(context, request)
  const diff = await twinsOf(context).diff(id, from, to)
  if (diff === null) throw new TwinfoldError('not_found', 'one of the versions was never there, or is before the history that is kept')
  return { from, to, ...diff }
}

export function twinHistoryRoutes (context: EdgeContext) {
  return async (app: FastifyInstance): Promise<void> => {
    const readers = authorizeHook(context, ['operator', 'application', 'viewer', 'device'])
    for (const path of ['/devices/:id/twin', '/devices/:id/twins/:name'] as const) {
      const named = path.endsWith(':name')
      app.get(`${path}/changes`, { ...twinDocs.changes(named), onRequest: readers }, async request => await listChanges(context, request))
      app.get(`${path}/diff`, { ...twinDocs.diff(named), onRequest: readers }, async request => await diffVersions(context, request))
    }
  }
}
