//! Recognising readers that go from front to back, and how far to run ahead of them. Pure.
//!
//! Loaders read one file in several streams at once, so a blob has several [`Streams`], each known by the place it has
//! come to. A touch right behind that place moves the stream; one anywhere else begins a new one, which gets nothing
//! until it has gone on for [`START_LEN`]. So a random reader costs what its misses cost and no more, and a sequential
//! one soon has [`WINDOW_MAX`] on the way.

use std::collections::VecDeque;
use std::ops::Range;

use crate::mount::READ_AHEAD_KB;

/// Streams that are remembered for one blob: loaders use up to 16 at once.
const COUNT_MAX: usize = 16;

/// Stored bytes in a row that make a reader sequential. A program's start reads libraries of a few mebibytes, and small
/// files that lie together, without the rest of the blob being wanted.
const START_LEN: u64 = 4 << 20;

/// First stored bytes ahead of a reader; doubled each time it has used half of them.
const WINDOW_MIN: u64 = 2 << 20;

/// Most stored bytes ahead of a reader: they keep 1 Gbit/s busy through 100 ms of round trip.
const WINDOW_MAX: u64 = 16 << 20;

/// How far apart touches may come and still be one reader's: the kernel asks for one read-ahead before the last has come,
/// in requests of which any may overtake any other.
const SLACK: u64 = 2 * READ_AHEAD_KB as u64 * 1024;

/// Touches that are remembered: as many as the kernel has under way for one reader.
const RECENT_COUNT: usize = 16;

#[derive(Clone, Debug)]
struct Stream {
    /// The first byte of its first touch, or of the one it jumped to.
    start: u64,
    /// The end of that touch: what one touch covers, a chunk, is not the reader's choice and shows nothing.
    origin: u64,
    /// The end of the furthest touch.
    place: u64,
    /// Stored bytes wanted since, each counted once as far as `recent` tells.
    wanted: u64,
    /// Where the last touches began: a chunk is touched by each of the kernel's requests for it.
    recent: VecDeque<u64>,
    /// Up to here everything is asked for. Not less than `place`.
    ahead: u64,
    window: u64,
    /// When it was last touched, by the count of touches.
    touched: u64,
}

/// The streams in one blob, by stored offsets.
#[derive(Debug, Default)]
pub(crate) struct Streams {
    streams: Vec<Stream>,
    touches: u64,
}

impl Streams {
    /// Notes that a reader wants these stored bytes. Returns those to run ahead to, if there are any.
    pub(crate) fn touch(&mut self, bytes: &Range<u64>) -> Option<Range<u64>> {
        self.touches += 1;
        let touched = self.touches;
        let near = |stream: &&mut Stream| {
            // Where it is, or in what it was promised: a fault there moves the stream.
            let from = stream.start.max(stream.place.saturating_sub(WINDOW_MAX));
            let to = stream.ahead.max(stream.place.saturating_add(SLACK));
            (from..=to).contains(&bytes.start)
        };
        let Some(stream) = self
            .streams
            .iter_mut()
            .filter(near)
            .max_by_key(|stream| stream.touched)
        else {
            self.begin(bytes);
            return None;
        };
        stream.touched = touched;
        if bytes.start > stream.place.saturating_add(SLACK) {
            // It skipped what lies between: what it has shown so far says nothing about what comes next.
            (stream.start, stream.origin, stream.wanted) = (bytes.start, bytes.end, 0);
            stream.place = bytes.end;
            stream.recent.clear();
            stream.recent.push_back(bytes.start);
            stream.window = WINDOW_MIN;
        }
        stream.count(bytes);
        stream.place = stream.place.max(bytes.end);
        stream.ahead = stream.ahead.max(stream.place);
        // Who leaves much out on the way picks things here and there.
        let passed = stream.place.saturating_sub(stream.origin);
        let is_sequential = stream.wanted >= START_LEN && stream.wanted >= passed / 8 * 7;
        if !is_sequential || stream.ahead - stream.place > stream.window / 2 {
            return None;
        }
        let from = stream.ahead;
        stream.ahead = stream.place.saturating_add(stream.window);
        stream.window = WINDOW_MAX.min(stream.window * 2);
        Some(from..stream.ahead)
    }

    fn begin(&mut self, bytes: &Range<u64>) {
        if self.streams.len() >= COUNT_MAX {
            let oldest = (0..self.streams.len()).min_by_key(|index| self.streams[*index].touched);
            oldest.map(|index| self.streams.swap_remove(index));
        }
        self.streams.push(Stream {
            start: bytes.start,
            origin: bytes.end,
            wanted: 0,
            recent: VecDeque::from([bytes.start]),
            place: bytes.end,
            ahead: bytes.end,
            window: WINDOW_MIN,
            touched: self.touches,
        });
    }
}

impl Stream {
    /// Counts what is wanted, whether or not it was overtaken by what lies behind it.
    fn count(&mut self, bytes: &Range<u64>) {
        if self.recent.contains(&bytes.start) || bytes.start < self.origin {
            return;
        }
        if self.recent.len() == RECENT_COUNT {
            self.recent.pop_front();
        }
        self.recent.push_back(bytes.start);
        self.wanted = self.wanted.saturating_add(bytes.end - bytes.start);
    }
}

#[cfg(test)]
mod tests;
