/**
 * The functions that tenant SQL may call: what works on the values that it is given. Not here, so that they are refused: whatever reads
 * files, addresses, dictionaries, settings, the server's state or other tables, table functions, what waits, what takes the name of
 * a function or type as text, and states of aggregates (their bytes would be the caller's own).
 */
const plain = `
abs acos acosh addDays addHours addMicroseconds addMilliseconds addMinutes addMonths addQuarters addSeconds addWeeks addYears age and array arrayAll
arrayAvg arrayCompact arrayConcat arrayCount arrayCumSum arrayDifference arrayDistinct arrayElement arrayEnumerate arrayExists arrayFill arrayFilter
arrayFirst arrayFirstIndex arrayFlatten arrayIntersect arrayJoin arrayLast arrayLastIndex arrayMap arrayMax arrayMin arrayPopBack arrayPopFront arrayProduct
arrayPushBack arrayPushFront arrayReverse arrayReverseSort arraySlice arraySort arrayStringConcat arraySum arrayUniq arrayZip ascii asin asinh assumeNotNull
atan atan2 atanh base64Decode base64Encode bar bitAnd bitCount bitNot bitOr bitShiftLeft bitShiftRight bitTest bitXor cast cbrt ceil ceiling char cityHash64
clamp coalesce concat concatWithSeparator cos cosh countEqual countSubstrings dateDiff date_diff datediff dateName dateTrunc date_trunc degrees divide e empty
endsWith equals erf erfc exp exp10 exp2 extract extractAll factorial farmHash64 firstNonDefault floor formatDateTime formatReadableDecimalSize
formatReadableQuantity formatReadableSize formatReadableTimeDelta fromUnixTimestamp fromUnixTimestamp64Micro fromUnixTimestamp64Milli
fromUnixTimestamp64Second gcd greatCircleDistance greater greaterOrEquals greatest has hasAll hasAny hex hypot identity if ifNotFinite ifNull ilike in
indexOf initcap intDiv intDivOrZero interval isFinite isInfinite isNaN isNotNull isNull isValidJSON isValidUTF8 JSONExtract JSONExtractBool JSONExtractFloat
JSONExtractInt JSONExtractKeys JSONExtractRaw JSONExtractString JSONExtractUInt JSONHas JSONLength JSONType lcm least left leftPad length lengthUTF8 less
lessOrEquals lgamma like locate log log10 log1p log2 lower lowerUTF8 makeDate makeDateTime makeDateTime64 map mapAdd mapContains mapContainsKey mapFilter mapFromArrays
mapKeys mapSubtract mapValues match max2 MD5 midpoint min2 minus modulo moduloOrZero monthName multiIf multiply negate not notEmpty notEquals notIn notLike now
now64 nullIf or pi plus position positionCaseInsensitive positionUTF8 positiveModulo pow power radians range regexpExtract repeat replace replaceAll
replaceOne replaceRegexpAll replaceRegexpOne reverse right rightPad round roundBankers roundDown roundToExp2 SHA1 SHA256 sigmoid sign sin sinh sipHash64
space splitByChar splitByRegexp splitByString splitByWhitespace sqrt startsWith subDate substr substring substringIndex substringUTF8 subtractDays
subtractHours subtractMinutes subtractMonths subtractSeconds subtractWeeks subtractYears tan tanh tgamma timeSlot timeSlots toBool toDate toDate32
toDateTime toDateTime64 toDateTimeOrNull toDayOfMonth toDayOfWeek toDayOfYear toDecimal128 toDecimal32 toDecimal64 toFloat32 toFloat64 toFloat64OrNull
toFloat64OrZero toHour toInt128 toInt16 toInt32 toInt64 toInt64OrNull toInt64OrZero toInt8 toIntervalDay toIntervalHour toIntervalMinute toIntervalMonth
toIntervalSecond toIntervalWeek toIntervalYear toISOWeek toISOYear toJSONString toLastDayOfMonth toMillisecond toMinute toModifiedJulianDay toMonday toMonth
toNullable toQuarter toRelativeDayNum toRelativeHourNum toSecond toStartOfDay toStartOfFifteenMinutes toStartOfFiveMinutes toStartOfHour toStartOfInterval
toStartOfMinute toStartOfMonth toStartOfQuarter toStartOfSecond toStartOfTenMinutes toStartOfWeek toStartOfYear toString toTimezone toTypeName toUInt128 toUInt16
toUInt32 toUInt64 toUInt64OrNull toUInt64OrZero toUInt8 toUnixTimestamp toUnixTimestamp64Micro toUnixTimestamp64Milli toUnixTimestamp64Second toUTCTimestamp
toValidUTF8 toWeek toYear toYYYYMM toYYYYMMDD today transform translate trim trimBoth trimLeft trimRight trunc truncate tuple tupleElement unhex upper upperUTF8
widthBucket xor xxHash64 yesterday runningDifference rowNumberInAllBlocks`

const aggregates = `
any anyHeavy anyLast any_value argMax argMin avg avgWeighted boundingRatio corr corrStable count covarPop covarSamp covarPopStable covarSampStable deltaSum
deltaSumTimestamp entropy exponentialMovingAverage first_value groupArray groupArrayLast groupArrayMovingAvg groupArrayMovingSum groupArraySorted groupBitAnd
groupBitOr groupBitXor groupUniqArray histogram intervalLengthSum kurtPop kurtSamp last_value max maxIntersections median medianExact min nonNegativeDerivative
quantile quantileDD quantileExact quantileExactHigh quantileExactLow quantileExactWeighted quantileTDigest quantiles quantilesExact quantilesTDigest rankCorr
retention sequenceCount sequenceMatch simpleLinearRegression skewPop skewSamp sparkbar stddevPop stddevPopStable stddevSamp stddevSampStable stddev_pop
stddev_samp sum sumCount sumKahan topK topKWeighted uniq uniqCombined uniqExact uniqHLL12 varPop varPopStable varSamp varSampStable var_pop var_samp windowFunnel
largestTriangleThreeBuckets`

const windowFunctions = 'rank denseRank dense_rank row_number percent_rank cume_dist ntile lag lead lagInFrame leadInFrame nth_value'

/** Types that take parameters, as in a cast. */
const types = 'Nullable LowCardinality Decimal Decimal32 Decimal64 Decimal128 DateTime DateTime64 FixedString Enum8 Enum16'

const words = (text: string): string[] => text.trim().split(/\s+/).map(name => name.toLowerCase())
const callable: ReadonlySet<string> = new Set([...words(plain), ...words(windowFunctions), ...words(types)])
const aggregateNames: ReadonlySet<string> = new Set(words(aggregates))
const combinators = /(?:if|ornull|ordefault|distinct|array|foreach|map)$/

/** For a test that none of them is a table function of the engine. */
export const callableNames: readonly string[] = [...callable, ...aggregateNames]

/** Whether tenant SQL may call it; upper and lower case are the engine's matter. */
export function isCallable (name: string): boolean {
  let rest = name.toLowerCase()
  if (callable.has(rest)) return true
  while (!aggregateNames.has(rest)) {
    if (!combinators.test(rest)) return false
    rest = rest.replace(combinators, '')
  }
  return true
}
