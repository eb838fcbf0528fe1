/**
 * Calendar periods in a person's time zone: which day, ISO week, month or year an instant lies in.
 */
export interface Period {
  readonly name: 'daily' | 'weekly' | 'monthly' | 'yearly';
  readonly unit: 'day' | 'week' | 'month' | 'year';
}

/** The wall clock of the time zone at that instant. */
export function wallClock(instant: Date, timeZone: string): Temporal.ZonedDateTime {
  return Temporal.Instant.fromEpochMilliseconds(instant.getTime()).toZonedDateTimeISO(timeZone);
}

/** Equal for two instants exactly when they lie in the same period: `2024-11-08`, `2024-W45`, `2024-11`, `2024`. */
export function periodKey(instant: Date, unit: Period['unit'], timeZone: string): string {
  const at = wallClock(instant, timeZone);
  switch (unit) {
    case 'day':
      return at.toPlainDate().toString();
    case 'week':
      // The ISO week belongs to the year that most of its days lie in: 2024-12-30 is in 2025-W01.
      return `${at.yearOfWeek}-W${String(at.weekOfYear).padStart(2, '0')}`;
    case 'month':
      return at.toPlainDate().toPlainYearMonth().toString();
    case 'year':
      return String(at.year);
  }
}
