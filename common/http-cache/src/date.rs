//! HTTP dates (RFC 9110 §5.6.7), read and written without a clock.
//!
//! All three formats are read. Letters may have any case and the day of the week
//! need not fit the date, since neither makes a date ambiguous and both occur;
//! everything else must be exactly as the standard writes it, because an
//! unreadable `Expires` means "already expired" (RFC 9111 §5.3).

use http::HeaderValue;

const MONTHS: [&[u8; 3]; 12] = [
    b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec",
];
/// From Thursday on, because the epoch was one.
const DAYS: [&[u8; 3]; 7] = [b"Thu", b"Fri", b"Sat", b"Sun", b"Mon", b"Tue", b"Wed"];
const DAYS_IN_FULL: [&str; 7] = [
    "Thursday",
    "Friday",
    "Saturday",
    "Sunday",
    "Monday",
    "Tuesday",
    "Wednesday",
];

const DAY_MS: u64 = 86_400_000;
/// The last second that four digits of a year can say.
const FORMAT_MAX_MS: u64 = 253_402_300_799_000;

/// Reads an HTTP date into milliseconds since the Unix epoch.
///
/// `None` for anything else, and for dates before 1970. Years of two digits (the
/// obsolete RFC 850 format) count from 1970 to 2069: RFC 9110 §5.6.7 would have
/// them lie within 50 years of now, and this function knows no now.
pub fn parse(value: &[u8]) -> Option<u64> {
    match value.len() {
        29 => imf_fixdate(value),
        24 => asctime(value),
        _ => rfc850(value),
    }
}

/// Writes an HTTP date (IMF-fixdate); milliseconds are cut off, and times after the
/// year 9999 become its last second.
pub fn format(unix_ms: u64) -> HeaderValue {
    let mut text = [0; 29];
    write(unix_ms, &mut text);
    HeaderValue::from_bytes(&text).expect("an HTTP date is visible ASCII")
}

/// Like [`format()`], into the caller's buffer.
pub fn write(unix_ms: u64, text: &mut [u8; 29]) {
    let unix_ms = unix_ms.min(FORMAT_MAX_MS);
    let days = unix_ms / DAY_MS;
    let second_of_day = (unix_ms % DAY_MS) / 1000;
    let (year, month, day) = civil_from_days(days);
    let pick = |index: u64, names: &[&'static [u8; 3]]| -> &'static [u8; 3] {
        usize::try_from(index)
            .ok()
            .and_then(|i| names.get(i).copied())
            .unwrap_or(b"???")
    };
    let [w0, w1, w2] = *pick(days % 7, &DAYS);
    let [m0, m1, m2] = *pick(month - 1, &MONTHS);
    let digit = |number: u64, place: u64| b'0' + u8::try_from(number / place % 10).unwrap_or(0);
    let (hour, minute, second) = (
        second_of_day / 3600,
        second_of_day / 60 % 60,
        second_of_day % 60,
    );
    *text = [
        w0,
        w1,
        w2,
        b',',
        b' ',
        digit(day, 10),
        digit(day, 1),
        b' ',
        m0,
        m1,
        m2,
        b' ',
        digit(year, 1000),
        digit(year, 100),
        digit(year, 10),
        digit(year, 1),
        b' ',
        digit(hour, 10),
        digit(hour, 1),
        b':',
        digit(minute, 10),
        digit(minute, 1),
        b':',
        digit(second, 10),
        digit(second, 1),
        b' ',
        b'G',
        b'M',
        b'T',
    ];
}

/// `Sun, 06 Nov 1994 08:49:37 GMT`
fn imf_fixdate(value: &[u8]) -> Option<u64> {
    let (name, value) = value.split_at_checked(3)?;
    short_day(name)?;
    let value = value.strip_prefix(b", ")?;
    let (day, value) = digits(value, 2)?;
    let (month, value) = month(value.strip_prefix(b" ")?)?;
    let (year, value) = digits(value.strip_prefix(b" ")?, 4)?;
    let (second_of_day, zone) = time(value.strip_prefix(b" ")?)?;
    zone.eq_ignore_ascii_case(b" GMT")
        .then(|| unix_ms(year, month, day, second_of_day))?
}

/// `Sunday, 06-Nov-94 08:49:37 GMT`
fn rfc850(value: &[u8]) -> Option<u64> {
    let comma = value.iter().position(|b| *b == b',')?;
    let (name, value) = value.split_at_checked(comma)?;
    DAYS_IN_FULL
        .iter()
        .find(|day| name.eq_ignore_ascii_case(day.as_bytes()))?;
    let (day, value) = digits(value.strip_prefix(b", ")?, 2)?;
    let (month, value) = month(value.strip_prefix(b"-")?)?;
    let (year, value) = digits(value.strip_prefix(b"-")?, 2)?;
    let year = if year < 70 { 2000 + year } else { 1900 + year };
    let (second_of_day, zone) = time(value.strip_prefix(b" ")?)?;
    zone.eq_ignore_ascii_case(b" GMT")
        .then(|| unix_ms(year, month, day, second_of_day))?
}

/// `Sun Nov  6 08:49:37 1994`
fn asctime(value: &[u8]) -> Option<u64> {
    let (name, value) = value.split_at_checked(3)?;
    short_day(name)?;
    let (month, value) = month(value.strip_prefix(b" ")?)?;
    let value = value.strip_prefix(b" ")?;
    let (day, value) = match value.strip_prefix(b" ") {
        Some(value) => digits(value, 1)?,
        None => digits(value, 2)?,
    };
    let (second_of_day, value) = time(value.strip_prefix(b" ")?)?;
    let (year, rest) = digits(value.strip_prefix(b" ")?, 4)?;
    rest.is_empty()
        .then(|| unix_ms(year, month, day, second_of_day))?
}

fn short_day(name: &[u8]) -> Option<()> {
    DAYS.iter()
        .any(|day| name.eq_ignore_ascii_case(*day))
        .then_some(())
}

/// A month's name, as 1 to 12.
fn month(value: &[u8]) -> Option<(u64, &[u8])> {
    let (name, rest) = value.split_at_checked(3)?;
    let index = MONTHS
        .iter()
        .position(|month| name.eq_ignore_ascii_case(*month))?;
    Some((u64::try_from(index).ok()? + 1, rest))
}

/// `08:49:37`, as a second of the day. A leap second is the one after it.
fn time(value: &[u8]) -> Option<(u64, &[u8])> {
    let (hour, value) = digits(value, 2)?;
    let (minute, value) = digits(value.strip_prefix(b":")?, 2)?;
    let (second, value) = digits(value.strip_prefix(b":")?, 2)?;
    (hour < 24 && minute < 60 && second <= 60)
        .then_some((hour * 3600 + minute * 60 + second, value))
}

/// Exactly `count` digits.
fn digits(value: &[u8], count: usize) -> Option<(u64, &[u8])> {
    let (text, rest) = value.split_at_checked(count)?;
    Some((crate::list::number(text)?, rest))
}

fn unix_ms(year: u64, month: u64, day: u64, second_of_day: u64) -> Option<u64> {
    if year < 1970 || day == 0 || day > days_in_month(year, month) {
        return None;
    }
    Some(days_from_civil(year, month, day) * DAY_MS + second_of_day * 1000)
}

fn days_in_month(year: u64, month: u64) -> u64 {
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days between 0000-03-01, where the Gregorian calendar's leap cycle is easiest
/// to count from, and 1970-01-01.
const EPOCH_FROM_MARCH_0000: u64 = 719_468;

/// Days since the epoch. Years begin in March here, so that the leap day is last;
/// (153 m + 2) / 5 is the number of days before month m of such a year.
fn days_from_civil(year: u64, month: u64, day: u64) -> u64 {
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let before_year = 365 * year + year / 4 - year / 100 + year / 400;
    before_year + (153 * month + 2) / 5 + day - 1 - EPOCH_FROM_MARCH_0000
}

/// The inverse of [`days_from_civil`]: year, month (1 to 12), day (1 to 31).
fn civil_from_days(days: u64) -> (u64, u64, u64) {
    let days = days + EPOCH_FROM_MARCH_0000;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let year = era * 400 + year_of_era;
    if month < 10 {
        (year, month + 3, day)
    } else {
        (year + 1, month - 9, day)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_all_three_formats() {
        let table: &[(&str, Option<u64>)] = &[
            ("Thu, 01 Jan 1970 00:00:00 GMT", Some(0)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(784_111_777_000)),
            ("Sunday, 06-Nov-94 08:49:37 GMT", Some(784_111_777_000)),
            ("Sun Nov  6 08:49:37 1994", Some(784_111_777_000)),
            ("Tue, 29 Feb 2000 23:59:59 GMT", Some(951_868_799_000)),
            ("Wed, 01 Mar 2000 00:00:00 GMT", Some(951_868_800_000)),
            ("Fri, 31 Dec 9999 23:59:59 GMT", Some(FORMAT_MAX_MS)),
            ("Tue, 19 Jan 2038 14:14:08 GMT", Some(2_147_523_248_000)),
            // Any case, and a day of the week that is somebody's mistake.
            ("SUN, 06 NOV 1994 08:49:37 gMT", Some(784_111_777_000)),
            ("Mon, 06 Nov 1994 08:49:37 GMT", Some(784_111_777_000)),
            // Two digits of a year.
            (
                "Thursday, 18-Aug-50 02:01:18 GMT",
                parse(b"Thu, 18 Aug 2050 02:01:18 GMT"),
            ),
            (
                "Thursday, 18-Aug-69 02:01:18 GMT",
                parse(b"Thu, 18 Aug 2069 02:01:18 GMT"),
            ),
            (
                "Thursday, 18-Aug-70 02:01:18 GMT",
                parse(b"Thu, 18 Aug 1970 02:01:18 GMT"),
            ),
            // A leap second.
            (
                "Sat, 31 Dec 2016 23:59:60 GMT",
                parse(b"Sun, 01 Jan 2017 00:00:00 GMT"),
            ),
        ];
        for (text, expected) in table {
            assert!(expected.is_some(), "{text}");
            assert_eq!(parse(text.as_bytes()), *expected, "{text}");
        }
    }

    #[test]
    fn refuses_everything_else() {
        let table = [
            "",
            "0",
            "-1",
            "Sun, 06 Nov 1994 08:49:37 UTC",
            "Sun, 06 Nov 1994 08:49:37 AEST",
            "Sun, 06 Nov 1994 08:49:37 +0000",
            "Sun, 06 Nov 1994 08:49:37",
            "Sun, 06 Nov 94 08:49:37 GMT",
            "Sun 06 Nov 1994 08:49:37 GMT",
            "Sun, 06  Nov  1994 08:49:37 GMT",
            "Sun, 06-Nov-1994 08:49:37 GMT",
            "Sun, 06 Nov 1994 08.49.37 GMT",
            "Sun, 06 Nov 1994 8:49:37 GMT",
            "Sun, 6 Nov 1994 08:49:37 GMT",
            "Sun, 06 Nov 1969 08:49:37 GMT",
            "Sun, 00 Nov 1994 08:49:37 GMT",
            "Sun, 31 Nov 1994 08:49:37 GMT",
            "Tue, 29 Feb 1900 08:49:37 GMT",
            "Tue, 29 Feb 2001 08:49:37 GMT",
            "Sun, 06 Foo 1994 08:49:37 GMT",
            "Foo, 06 Nov 1994 08:49:37 GMT",
            "Sun, 06 Nov 1994 24:00:00 GMT",
            "Sun, 06 Nov 1994 08:60:37 GMT",
            "Sun, 06 Nov 1994 08:49:61 GMT",
            " Sun, 06 Nov 1994 08:49:37 GMT",
            "Sun, 06-Nov-94 08:49:37 GMT",
            "Sun Nov 6 08:49:37 1994",
            "Sun Nov 006 08:49:37 1994",
        ];
        for text in table {
            assert_eq!(parse(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn writes_what_it_reads() {
        let table = [
            (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
            (999, "Thu, 01 Jan 1970 00:00:00 GMT"),
            (784_111_777_000, "Sun, 06 Nov 1994 08:49:37 GMT"),
            (951_868_799_999, "Tue, 29 Feb 2000 23:59:59 GMT"),
            (FORMAT_MAX_MS, "Fri, 31 Dec 9999 23:59:59 GMT"),
            (u64::MAX, "Fri, 31 Dec 9999 23:59:59 GMT"),
        ];
        for (unix_ms, text) in table {
            assert_eq!(format(unix_ms), text);
        }
        // Every day of five leap cycles, at an odd second.
        for day in 0..731_000_u64 {
            let unix_ms = day * DAY_MS + 45_296_000;
            assert_eq!(
                parse(format(unix_ms).as_bytes()),
                Some(unix_ms),
                "day {day}"
            );
        }
    }
}
