//! Days of the calendar.

use std::fmt;

/// A day, counted from 1970-01-01.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Date {
    days: i64,
}

impl Date {
    /// `YYYY-MM-DD`, from 1970 on.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = text.as_bytes();
        let shaped = bytes.len() == 10
            && bytes.iter().enumerate().all(|(i, b)| if matches!(i, 4 | 7) { *b == b'-' } else { b.is_ascii_digit() });
        if !shaped {
            return None;
        }
        let (year, month, day): (i64, i64, i64) =
            (text[..4].parse().ok()?, text[5..7].parse().ok()?, text[8..].parse().ok()?);
        let leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
        let lengths = [31, if leap { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
        let length = *lengths.get(usize::try_from(month - 1).ok()?)?;
        if year < 1970 || !(1..=length).contains(&day) {
            return None;
        }
        // Years that begin in March, so that the leap day is the last one.
        let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
        let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1;
        Some(Self { days: days - 719_468 })
    }

    /// The day of a time in seconds since 1970, in UTC.
    pub const fn of_unix(seconds: i64) -> Self {
        Self { days: seconds.div_euclid(86_400) }
    }

    /// As in `January 2, 2006`.
    pub fn in_words(self) -> String {
        const MONTHS: [&str; 12] = [
            "January",
            "February",
            "March",
            "April",
            "May",
            "June",
            "July",
            "August",
            "September",
            "October",
            "November",
            "December",
        ];
        let text = self.to_string();
        let mut parts = text.rsplitn(3, '-').map(str::to_owned);
        let (day, month, year) =
            (parts.next().unwrap_or_default(), parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let month = month.parse::<usize>().ok().and_then(|month| MONTHS.get(month.wrapping_sub(1)));
        format!("{} {}, {year}", month.unwrap_or(&""), day.trim_start_matches('0'))
    }

    /// Today, in UTC.
    pub fn today() -> Self {
        let seconds = std::time::SystemTime::now()
            .duration_since(std::time::SystemTime::UNIX_EPOCH)
            .map_or(0, |time| time.as_secs());
        Self { days: i64::try_from(seconds / 86_400).unwrap_or(i64::MAX) }
    }

    /// Days from another day to this one.
    pub const fn since(self, other: Self) -> i64 {
        self.days - other.days
    }
}

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let days = u64::try_from(self.days).unwrap_or_default();
        f.write_str(&crate::commands::keygen::date(days))
    }
}

#[cfg(test)]
mod tests {
    use super::Date;

    #[test]
    fn days_are_those_of_the_calendar() {
        for (text, days) in [("1970-01-01", 0), ("1970-03-01", 59), ("2000-02-29", 11_016), ("2026-11-23", 20_780)] {
            let date = Date::parse(text).expect("a date");
            assert_eq!((date.days, date.to_string().as_str()), (days, text));
        }
        for text in ["", "2027-02-29", "2027-13-01", "2027-00-01", "2027-04-31", "27-04-01", "2027-4-01", "2027/04/01"]
        {
            assert_eq!(Date::parse(text), None, "{text}");
        }
    }
}
