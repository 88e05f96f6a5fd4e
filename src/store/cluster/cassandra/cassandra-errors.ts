/**
 * What the driver's errors mean: the service is not there (callers may come again), or the statement is wrong (they may not).
 * Nothing of the driver's own error types leaves this folder.
 */
import { errors, types } from 'cassandra-driver'
import { TwinfoldError } from '../../../core/errors.js'

/** A fault of the service or of the way to it, as opposed to one of the statement. */
export class CassandraFault extends TwinfoldError {
  /** Says something about the service as a whole, so that the circuit breaker counts it; not so for one partition's contention. */
  readonly general: boolean
  /** The service was too slow rather than away: the concurrency limit takes it as a sign of overload. */
  readonly late: boolean

  constructor (detail: string, { general, late, cause }: { general: boolean, late: boolean, cause: unknown }) {
    super('store_unavailable', detail, { cause, retryAfterMs: 1000 })
    this.general = general
    this.late = late
  }
}

/** The properties that the driver puts on an error of the server, by kind. */
interface ServerError {
  readonly code: number
  readonly message: string
  readonly consistencies?: number
  readonly required?: number
  readonly alive?: number
  readonly received?: number
  readonly blockFor?: number
  readonly failures?: number
  readonly writeType?: string
  readonly coordinator?: string
}

const codes = types.responseErrorCodes
/** CAS_WRITE_UNKNOWN of protocol 5: a conditional write whose commit did not reach enough replicas. */
const casWriteUnknown = 0x1700
/** Codes of the statement's own faults: protocol, syntax, permission, invalid, configuration, exists already. */
const statementFaults = new Set<number>([codes.protocolError, codes.syntaxError, codes.unauthorized, codes.invalid, codes.configError, codes.alreadyExists, codes.functionFailure])

function levelName (level: number | undefined): string {
  const found = Object.entries(types.consistencies).find(([, value]) => value === level)
  return found === undefined ? 'the consistency asked for' : found[0].replace(/[A-Z]/g, letter => `_${letter}`).toUpperCase()
}

/** @returns the fault in words that name how many replicas answered, where the server said so. */
function serverFault (error: ServerError, cause: unknown): CassandraFault {
  const level = levelName(error.consistencies)
  const conditional = error.writeType === 'CAS'
  switch (error.code) {
    case codes.unavailableException:
      return new CassandraFault(`Cassandra: ${error.alive} of the ${error.required} replicas that ${level} needs are alive`, { general: true, late: false, cause })
    case codes.readTimeout:
      return new CassandraFault(`Cassandra: ${error.received} of the ${error.blockFor} replicas that ${level} needs answered the read in time`, { general: true, late: true, cause })
    case codes.writeTimeout:
      return new CassandraFault(`Cassandra: ${error.received} of the ${error.blockFor} replicas that ${level} needs answered the write in time`, { general: !conditional, late: true, cause })
    case codes.readFailure:
    case codes.writeFailure:
      return new CassandraFault(`Cassandra: ${error.received} of the ${error.blockFor} replicas that ${level} needs answered, ${error.failures} failed`, { general: false, late: false, cause })
    case casWriteUnknown:
      return new CassandraFault('Cassandra: it is not known whether the conditional write holds', { general: false, late: true, cause })
    case codes.overloaded:
      return new CassandraFault(`Cassandra is overloaded: ${error.message}`, { general: true, late: true, cause })
    default:
      return new CassandraFault(`Cassandra: ${error.message}`, { general: true, late: false, cause })
  }
}

/** What each host that was tried had to say: an error, or a word. */
function triedHosts (error: errors.NoHostAvailableError): Readonly<Record<string, unknown>> {
  return (error.innerErrors as Record<string, unknown> | null) ?? {}
}

/** Of all that was tried, the answer of a server says more than a host that was not there. */
function mostTelling (error: errors.NoHostAvailableError): unknown {
  const inner = Object.values(triedHosts(error)).filter(value => value instanceof Error)
  return inner.find(value => value instanceof errors.ResponseError) ?? inner.find(value => value instanceof errors.OperationTimedOutError) ?? null
}

function unreachable (error: errors.NoHostAvailableError): string {
  const tried = Object.entries(triedHosts(error)).map(([host, reason]) => `${host}: ${reason instanceof Error ? reason.message : String(reason)}`)
  return `Cassandra: no node can be reached${tried.length === 0 ? '' : ` (${tried.slice(0, 4).join('; ')})`}`
}

/** @returns the error to reject with: a CassandraFault when the service is at fault, else `internal` with the server's words. */
export function translate (error: unknown): TwinfoldError {
  if (error instanceof TwinfoldError) return error
  if (error instanceof errors.NoHostAvailableError) {
    const telling = mostTelling(error)
    if (telling !== null) return translate(telling)
    const busy = Object.values(triedHosts(error)).some(value => value instanceof errors.BusyConnectionError)
    return new CassandraFault(unreachable(error), { general: true, late: busy, cause: error })
  }
  if (error instanceof errors.ResponseError) {
    const answer = error as unknown as ServerError
    if (!statementFaults.has(answer.code)) return serverFault(answer, error)
    return new TwinfoldError('internal', `Cassandra refuses a statement: ${error.message}`, { cause: error })
  }
  if (error instanceof errors.OperationTimedOutError) return new CassandraFault(`Cassandra did not answer in time: ${error.message}`, { general: true, late: true, cause: error })
  if (error instanceof errors.AuthenticationError) return new CassandraFault(`Cassandra refuses the credentials: ${error.message}`, { general: true, late: false, cause: error })
  if (error instanceof Error && (error as { isSocketError?: boolean }).isSocketError === true) return new CassandraFault(`Cassandra: the connection broke (${error.message})`, { general: true, late: false, cause: error })
  if (error instanceof errors.DriverError && !(error instanceof errors.ArgumentError)) return new CassandraFault(`Cassandra: ${error.message}`, { general: true, late: false, cause: error })
  return new TwinfoldError('internal', `a Cassandra statement failed: ${error instanceof Error ? error.message : String(error)}`, { cause: error })
}
