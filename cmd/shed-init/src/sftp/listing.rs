//! Lines of a listing in the format of `ls -l`, with the columns of OpenSSH. Clients show them unchanged. Pure.

use rustix::fs::{FileType, Stat};

use crate::sftp::accounts::Accounts;

/// Dates within this many seconds (half a year) are shown with the time of day, older ones with the year.
const RECENT: i64 = 365 * 24 * 60 * 60 / 2;
const DAY: i64 = 24 * 60 * 60;
const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// The line of a file; `now` decides the format of the date.
pub(super) fn line(name: &[u8], stat: &Stat, accounts: &Accounts, now: i64) -> Vec<u8> {
    let user = accounts.user(stat.st_uid).map_or_else(|| stat.st_uid.to_string(), str::to_owned);
    let group = accounts.group(stat.st_gid).map_or_else(|| stat.st_gid.to_string(), str::to_owned);
    // Two spaces after the mode: the first is the column of the access list mark, which OpenSSH leaves empty too.
    let columns = format!(
        "{}  {:>3} {user:<8} {group:<8} {:>8} {} ",
        mode(stat.st_mode),
        stat.st_nlink,
        stat.st_size,
        date(stat.st_mtime, now),
    );
    let mut line = columns.into_bytes();
    line.extend(name);
    line
}

/// The line of a file whose attributes cannot be read, as in a directory without execute permission.
pub(super) fn unknown(name: &[u8]) -> Vec<u8> {
    let mut line = b"??????????    ? ?        ?               ?            ? ".to_vec();
    line.extend(name);
    line
}

fn mode(mode: u32) -> String {
    let kind = match FileType::from_raw_mode(mode) {
        FileType::RegularFile => '-',
        FileType::Directory => 'd',
        FileType::Symlink => 'l',
        FileType::Fifo => 'p',
        FileType::Socket => 's',
        FileType::CharacterDevice => 'c',
        FileType::BlockDevice => 'b',
        FileType::Unknown => '?',
    };
    let mut text = String::from(kind);
    // Each group of three letters, with the special bit that changes its last letter.
    for (shift, special, letter) in [(6, 0o4000, 's'), (3, 0o2000, 's'), (0, 0o1000, 't')] {
        let bits = mode >> shift;
        text.push(if bits & 4 == 0 { '-' } else { 'r' });
        text.push(if bits & 2 == 0 { '-' } else { 'w' });
        text.push(match (bits & 1 != 0, mode & special != 0) {
            (false, false) => '-',
            (true, false) => 'x',
            (false, true) => letter.to_ascii_uppercase(),
            (true, true) => letter,
        });
    }
    text
}

/// A date in UTC, which is the default time zone of containers.
fn date(time: i64, now: i64) -> String {
    let (year, month, day) = civil(time.div_euclid(DAY));
    let month = MONTHS.get(month).copied().unwrap_or("???");
    let second = time.rem_euclid(DAY);
    // Future times are shown with the year too.
    if (0..RECENT).contains(&now.saturating_sub(time)) {
        format!("{month} {day:>2} {:02}:{:02}", second / 3600, second / 60 % 60)
    } else {
        format!("{month} {day:>2}  {year}")
    }
}

/// The year, the month from 0 and the day of a day counted from 1970. Years are counted from March, so that the leap day is
/// the last day: 400 years have 146,097 days, and five months have 153.
fn civil(days: i64) -> (i64, usize, i64) {
    let from_march_0000 = days + 719_468;
    let (era, day_of_era) =
        (from_march_0000.div_euclid(146_097), from_march_0000.rem_euclid(146_097));
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12;
    let year = 400 * era + year_of_era + i64::from(month < 2);
    (year, usize::try_from(month).unwrap_or(0), day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_have_the_format_of_ls() {
        for (raw, text) in [
            (0o100_644, "-rw-r--r--"),
            (0o040_755, "drwxr-xr-x"),
            (0o120_777, "lrwxrwxrwx"),
            (0o104_755, "-rwsr-xr-x"),
            (0o102_644, "-rw-r-Sr--"),
            (0o041_777, "drwxrwxrwt"),
            (0o041_776, "drwxrwxrwT"),
            (0o010_600, "prw-------"),
            (0o140_600, "srw-------"),
            (0o020_620, "crw--w----"),
            (0o060_660, "brw-rw----"),
        ] {
            assert_eq!(mode(raw), text, "{raw:o}");
        }
    }

    #[test]
    fn recent_dates_have_a_time_and_others_a_year() {
        let now = 1_709_251_199;
        for (time, text) in [
            (now, "Feb 29 23:59"),
            (now - DAY, "Feb 28 23:59"),
            (now + 1, "Mar  1  2024"),
            (now - RECENT, "Aug 31  2023"),
            (951_782_400, "Feb 29  2000"),
            (0, "Jan  1  1970"),
            (-1, "Dec 31  1969"),
            (-62_135_596_800, "Jan  1  1"),
            (4_107_542_400, "Mar  1  2100"),
        ] {
            assert_eq!(date(time, now), text, "{time}");
        }
    }

    #[test]
    fn a_line_has_the_columns_of_openssh() {
        let stat = rustix::fs::stat("/").unwrap();
        let line = line(b"n\xffme", &stat, &Accounts::default(), stat.st_mtime);
        let text = String::from_utf8_lossy(&line).into_owned();
        let columns: Vec<&str> = text.split_whitespace().collect();
        assert_eq!(columns.len(), 9, "{text}");
        assert!(text.starts_with('d') && line.ends_with(b" n\xffme"), "{text}");
        assert_eq!(&text[10..12], "  ", "{text}");
    }
}
