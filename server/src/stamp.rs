//! XEP-0082: XMPP Date and Time Profiles. We write UTC, milliseconds and `Z`, and read all of them.
use std::time::{SystemTime, UNIX_EPOCH};

const MICROS_PER_DAY: i64 = 86_400_000_000;
/// Days from 0000-03-01 to 1970-01-01.
const DAYS_TO_1970: i64 = 719_468;
/// Days in 400 years, after which the calendar repeats.
const DAYS_PER_ERA: i64 = 146_097;

/// Microseconds since 1970, 0 if the clock stands before that.
pub fn now_us() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

/// The time as `2002-09-10T23:08:25.123Z`.
pub fn format_us(us: i64) -> String {
    let (days, rest) = (us.div_euclid(MICROS_PER_DAY), us.rem_euclid(MICROS_PER_DAY));
    let (year, month, day) = date(days);
    let ms = rest / 1_000;
    let (hour, minute) = (ms / 3_600_000, ms / 60_000 % 60);
    let (second, ms) = (ms / 1_000 % 60, ms % 1_000);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z")
}

/// The microseconds since 1970 of a time such as `2002-09-10T23:08:25Z`, with or without a fraction, in UTC or with an
/// offset. `None` if it is none.
pub fn parse_us(text: &str) -> Option<i64> {
    let (date, rest) = text.split_at_checked(10)?;
    let (time, zone) = rest.split_at_checked(9)?;
    let fields = |text: &str, mark: char, widths: [usize; 3]| {
        let mut fields = text.split(mark);
        let numbers = widths.map(|width| number(fields.next()?, width));
        fields.next().is_none().then_some(numbers)
    };
    let [year, month, day] = fields(date, '-', [4, 2, 2])?;
    let [hour, minute, second] = fields(time.strip_prefix('T')?, ':', [2, 2, 2])?;
    let (year, month, day) = (year?, month?, day?);
    let (hour, minute, second) = (hour?, minute?, second?);
    let days = day_number(year, month, day);
    let is_date = (1..=12).contains(&month) && self::date(days) == (year, month, day);
    // A leap second is taken for the one before it.
    if !is_date || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let (fraction, zone) = match zone.strip_prefix('.') {
        None => (0, zone),
        Some(rest) => {
            let digits = rest.find(|c: char| !c.is_ascii_digit())?;
            let (digits, zone) = rest.split_at(digits);
            let us = format!("{digits:0<6}");
            (
                us.get(..6).filter(|_| !digits.is_empty())?.parse().ok()?,
                zone,
            )
        }
    };
    let seconds = ((days * 24 + hour) * 60 + minute) * 60 + second.min(59) - offset_secs(zone)?;
    Some(seconds * 1_000_000 + fraction)
}

/// A number of exactly so many digits.
fn number(text: &str, width: usize) -> Option<i64> {
    let is_number = text.len() == width && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| is_number)
}

/// Seconds of `Z`, `+02:00` or the like.
fn offset_secs(zone: &str) -> Option<i64> {
    if zone == "Z" {
        return Some(0);
    }
    let sign = match zone.chars().next()? {
        '+' => 1,
        '-' => -1,
        _ => return None,
    };
    let (hours, minutes) = zone.get(1..)?.split_once(':')?;
    let (hours, minutes) = (number(hours, 2)?, number(minutes, 2)?);
    (hours <= 23 && minutes <= 59).then_some(sign * (hours * 3_600 + minutes * 60))
}

/// The inverse of [`date`]; what it makes of a day that there is not is another day.
fn day_number(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let month_from_march = (month + 9) % 12;
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * DAYS_PER_ERA + day_of_era - DAYS_TO_1970
}

/// Year, month and day of a day counted from 1970-01-01, in the Gregorian calendar. Years are counted from March, so
/// that the leap day is the last of a year.
fn date(days: i64) -> (i64, i64, i64) {
    let days = days + DAYS_TO_1970;
    let era = days.div_euclid(DAYS_PER_ERA);
    let day_of_era = days.rem_euclid(DAYS_PER_ERA);
    let leap_days = day_of_era / 1_460 - day_of_era / 36_524 + day_of_era / 146_096;
    let year_of_era = (day_of_era - leap_days) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    // Five months from March have 153 days, over and over.
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_the_profile_says() {
        for (us, expected) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (-1, "1969-12-31T23:59:59.999Z"),
            (951_782_399_999_999, "2000-02-28T23:59:59.999Z"),
            (951_782_400_000_000, "2000-02-29T00:00:00.000Z"),
            (951_868_800_000_000, "2000-03-01T00:00:00.000Z"),
            (1_031_699_305_123_456, "2002-09-10T23:08:25.123Z"),
            (1_704_067_199_000_000, "2023-12-31T23:59:59.000Z"),
            (4_107_542_400_000_000, "2100-03-01T00:00:00.000Z"),
            (253_402_300_799_000_000, "9999-12-31T23:59:59.000Z"),
        ] {
            assert_eq!(format_us(us), expected);
        }
    }

    #[test]
    fn times_are_read_in_any_zone() {
        let check = |text: &str, expected| assert_eq!(parse_us(text), expected, "{text}");
        for us in [0, -1_000, 951_782_400_000_000, 253_402_300_799_000_000] {
            check(&format_us(us), Some(us));
        }
        check("1970-01-01T00:00:01Z", Some(1_000_000));
        check("1970-01-01T00:00:00.0000019Z", Some(1));
        check("1970-01-01T02:00:01+02:00", Some(1_000_000));
        check("1969-12-31T23:30:00-00:30", Some(0));
        check("2016-12-31T23:59:60Z", parse_us("2016-12-31T23:59:59Z"));
        for bad in [
            "",
            "1970-01-01",
            "1970-01-01T00:00:00",
            "1970-02-29T00:00:00Z",
            "1970-13-01T00:00:00Z",
            "1970-00-01T00:00:00Z",
            "1970-01-01T24:00:00Z",
            "1970-01-01 00:00:00Z",
            "1970-01-01T00:00:00.Z",
            "1970-01-01T00:00:00.5",
            "1970-01-01T00:00:00+2:00",
            "1970-01-01T00:00:00+24:00",
            "1970-01-01T00:00:00Zz",
            "+970-01-01T00:00:00Z",
            "1970-01-01T0\u{e9}:00:00Z",
        ] {
            check(bad, None);
        }
    }

    #[test]
    fn each_day_follows_the_one_before() {
        let mut last = date(-800_000);
        for days in -799_999..800_000 {
            let next = date(days);
            let (year, month, day) = last;
            let expected = [
                (year, month, day + 1),
                (year, month + 1, 1),
                (year + 1, 1, 1),
            ];
            let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
            let length = match month {
                2 if is_leap => 29,
                2 => 28,
                4 | 6 | 9 | 11 => 30,
                _ => 31,
            };
            let index = if day < length {
                0
            } else if month < 12 {
                1
            } else {
                2
            };
            assert_eq!(next, expected[index]);
            assert_eq!(day_number(next.0, next.1, next.2), days);
            last = next;
        }
    }
}
