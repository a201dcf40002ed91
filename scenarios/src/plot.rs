//! An outcome as a drawing: rates and capacity, delay, and loss over time, in an SVG that stands alone.
//!
//! Written as text: the plotting crates that were looked at paint fixed colours and give no title, and so would have to
//! be rewritten afterwards to be read in the dark, or by ear. The same outcome gives the same bytes, and not
//! many: samples are put together until they fit, rates and losses by their mean, waiting by its most.
//!
//! Not here: the figures of the table, and any choice of what is worth showing. Each flow is drawn.

use std::fmt::Write;
use std::time::Duration;

use lenscast_media::Bitrate;

use crate::outcome::{Outcome, SAMPLE};

const WIDTH: f64 = 960.0;
/// Between the left edge and the axis: room for the figures on it.
const LEFT: f64 = 64.0;
const RIGHT: f64 = 16.0;
/// Title and legend.
const HEAD: f64 = 98.0;
const PANEL_GAP: f64 = 34.0;
const RATE_HEIGHT: f64 = 260.0;
const DELAY_HEIGHT: f64 = 140.0;
const LOSS_HEIGHT: f64 = 90.0;
const FOOT: f64 = 40.0;
/// Of a sans-serif of 12 pixels, about.
const LETTER_WIDTH: f64 = 6.4;
const PLOT_WIDTH: f64 = WIDTH - LEFT - RIGHT;
const HEIGHT: f64 = HEAD + RATE_HEIGHT + DELAY_HEIGHT + LOSS_HEIGHT + 2.0 * PANEL_GAP + FOOT;
/// Points of all lines together: a point takes 12 bytes at most.
const MAX_POINTS: usize = 10_000;
/// Beyond so many a line has more points than the drawing has pixels to show them.
const MAX_POINTS_OF_LINE: usize = 450;
/// The queue of a test case is rarely longer; where one is, the axis grows.
const LEAST_DELAY: Duration = Duration::from_millis(50);
const LEAST_LOSS: f64 = 0.05;
/// As many colours as can be told apart; further flows begin anew.
const COLOURS: usize = 8;

/// Colours that are told apart with any common colour blindness (after Okabe and Ito), darker by day, lighter by night.
const STYLE: &str = "\
svg{--paper:#fff;--ink:#1f2328;--faint:#d8dee4;--link:#8c959f;font:12px system-ui,sans-serif;background:var(--paper)}\
.f0{--c:#0066b3}.f1{--c:#b84d00}.f2{--c:#00795a}.f3{--c:#a0528c}.f4{--c:#8a6d00}.f5{--c:#2a8ab8}.f6{--c:#c2185b}\
.f7{--c:#57606a}.f{color:var(--c)}\
text{fill:var(--ink)}.h{font-size:16px;font-weight:600}.e{text-anchor:end}.m{text-anchor:middle}\
path,line{fill:none;stroke:currentColor;stroke-width:1.4;stroke-linejoin:round}\
.g{stroke:var(--faint);stroke-width:1}.k{stroke:var(--link);stroke-width:1.6}.q{stroke:none;fill:var(--link);fill-opacity:.3}\
.k1{stroke-dasharray:7 3}.k2{stroke-dasharray:2 2}\
.t{stroke-width:1;stroke-opacity:.55;stroke-dasharray:1 2}.s{stroke-width:1;stroke-opacity:.5;stroke-dasharray:4 2}\
.x{stroke:var(--ink);stroke-width:1;stroke-opacity:.6;stroke-dasharray:3 2 1 2}\
@media(prefers-color-scheme:dark){svg{--paper:#0d1117;--ink:#e6edf3;--faint:#30363d;--link:#8b949e}\
.f0{--c:#58a6ff}.f1{--c:#ff9d57}.f2{--c:#3fcf9f}.f3{--c:#e0a0d0}.f4{--c:#e3c34a}.f5{--c:#86d6ff}.f6{--c:#ff7ba9}\
.f7{--c:#a8b1ba}}";

/// An SVG of what came of a run.
#[must_use]
pub fn plot(outcome: &Outcome) -> String {
    let mut svg = String::new();
    // Writing to a string cannot fail.
    let _ = draw(&mut svg, outcome);
    svg
}

fn draw(svg: &mut String, outcome: &Outcome) -> std::fmt::Result {
    let samples = samples(outcome);
    let axis = TimeAxis::new(outcome, samples);
    write!(
        svg,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" width=\"{WIDTH}\" \
         height=\"{HEIGHT}\" role=\"img\" aria-labelledby=\"title description\">\n<title id=\"title\">{}</title>\n\
         <desc id=\"description\">{}</desc>\n<style>{STYLE}</style>\n\
         <rect width=\"100%\" height=\"100%\" style=\"fill:var(--paper)\"/>\n",
        Escaped(&headline(outcome)),
        Escaped(&description(outcome)),
    )?;
    writeln!(svg, "<text class=\"h\" x=\"{LEFT}\" y=\"26\">{}</text>", Escaped(&headline(outcome)))?;
    legend(svg, outcome)?;

    let highest = highest_rate(outcome);
    let rates = Panel::new(svg, &axis, "Mb/s", HEAD, RATE_HEIGHT, highest / 1e6, 1.0 / 1e6)?;
    for (index, link) in outcome.bottlenecks.iter().enumerate() {
        rates.steps(svg, &axis, &format!("k k{index}"), &link.capacity)?;
    }
    for other in &outcome.cross {
        rates.line(svg, &axis, "x", mean, &bits(&other.received))?;
    }
    for (index, flow) in outcome.flows.iter().enumerate() {
        writeln!(svg, "<g class=\"f f{}\">", index % COLOURS)?;
        rates.line(svg, &axis, "t", mean, &bits(&flow.target))?;
        rates.line(svg, &axis, "s", mean, &bits(&flow.goodput))?;
        rates.line(svg, &axis, "r", mean, &bits(&flow.received))?;
        svg.push_str("</g>\n");
    }

    let top = HEAD + RATE_HEIGHT + PANEL_GAP;
    let longest = longest_wait(outcome).max(LEAST_DELAY);
    let delays = Panel::new(svg, &axis, "ms in queues", top, DELAY_HEIGHT, longest.as_secs_f64() * 1e3, 1e3)?;
    for link in &outcome.bottlenecks {
        let queue: Vec<_> = link.queue.iter().map(|wait| Some(wait.as_secs_f64())).collect();
        delays.area(svg, &axis, "q", most, &queue)?;
    }
    for (index, flow) in outcome.flows.iter().enumerate() {
        writeln!(svg, "<g class=\"f f{}\">", index % COLOURS)?;
        let waits: Vec<_> = flow.queueing.iter().map(|wait| wait.map(|wait| wait.as_secs_f64())).collect();
        delays.line(svg, &axis, "r", most, &waits)?;
        svg.push_str("</g>\n");
    }

    let top = top + DELAY_HEIGHT + PANEL_GAP;
    let losses = Panel::new(svg, &axis, "% lost", top, LOSS_HEIGHT, most_lost(outcome).max(LEAST_LOSS) * 100.0, 100.0)?;
    for (index, flow) in outcome.flows.iter().enumerate() {
        writeln!(svg, "<g class=\"f f{}\">", index % COLOURS)?;
        losses.line(svg, &axis, "s", mean, &some(&flow.lost))?;
        losses.line(svg, &axis, "r", mean, &some(&flow.lost_after_repair))?;
        svg.push_str("</g>\n");
    }
    axis.label(svg)?;
    svg.push_str("</svg>\n");
    Ok(())
}

fn headline(outcome: &Outcome) -> String {
    format!("{} {}: {}", outcome.case, outcome.title, outcome.controller.name())
}

/// What a reader hears who does not see it.
fn description(outcome: &Outcome) -> String {
    let metrics = &outcome.metrics;
    format!(
        "Rates and capacity in Mb/s, waiting in queues in ms and loss in per cent over {} s, {} media flows, {} others. \
         {:.1} % of the capacity used, goodput {:.2} Mb/s, waiting {:.0} ms on average and {:.0} ms at the 95th \
         percentile, {:.2} % lost, {:.2} % after repair.",
        outcome.length.as_secs(),
        outcome.flows.len(),
        outcome.cross.len(),
        metrics.utilisation * 100.0,
        metrics.goodput.as_bps() as f64 / 1e6,
        metrics.queueing_mean.as_secs_f64() * 1e3,
        metrics.queueing_p95.as_secs_f64() * 1e3,
        metrics.lost * 100.0,
        metrics.lost_after_repair * 100.0,
    )
}

/// Who is drawn, and below that what the kinds of lines mean.
fn legend(svg: &mut String, outcome: &Outcome) -> std::fmt::Result {
    let flows = outcome.flows.iter().enumerate();
    let flows = flows.map(|(index, flow)| (format!("f f{}", index % COLOURS), String::from("r"), flow.name.clone()));
    let links = outcome.bottlenecks.iter().enumerate();
    let links =
        links.map(|(index, link)| (String::from("l"), format!("k k{index}"), format!("capacity {}", link.name)));
    let others = (!outcome.cross.is_empty())
        .then(|| (String::from("l"), String::from("x"), format!("other traffic ({})", outcome.cross.len())));
    legend_row(svg, 48.0, flows.chain(links).chain(others))?;
    let kinds = [
        ("r", "received; lost after repair"),
        ("s", "goodput; lost before repair"),
        ("t", "allowed by the controller"),
        ("q", "the queue"),
    ];
    let kinds = kinds.map(|(line, meaning)| (String::from("f f7"), String::from(line), String::from(meaning)));
    legend_row(svg, 68.0, kinds)
}

/// Entries one after another: colour, kind of line, text.
fn legend_row(
    svg: &mut String,
    y: f64,
    entries: impl IntoIterator<Item = (String, String, String)>,
) -> std::fmt::Result {
    let mut x = LEFT;
    for (colour, line, text) in entries {
        // Beyond the edge nobody sees it.
        if x > WIDTH - RIGHT {
            break;
        }
        let shape = if line == "q" { "v-8h24v8z" } else { "h24" };
        writeln!(
            svg,
            "<g class=\"{colour}\"><path class=\"{line}\" d=\"M{x:.1} {}{shape}\"/>\
             <text x=\"{:.1}\" y=\"{y}\">{}</text></g>",
            y - 4.0,
            x + 30.0,
            Escaped(&text),
        )?;
        x += 48.0 + LETTER_WIDTH * text.chars().count() as f64;
    }
    Ok(())
}

/// The time axis, and how many samples make a point.
struct TimeAxis {
    seconds: f64,
    bin: usize,
}

impl TimeAxis {
    fn new(outcome: &Outcome, samples: usize) -> Self {
        let lines = 6 * outcome.flows.len() + outcome.cross.len() + 2 * outcome.bottlenecks.len();
        let points = (MAX_POINTS / lines.max(1)).clamp(2, MAX_POINTS_OF_LINE);
        Self { seconds: (samples.max(1) as f64) * SAMPLE.as_secs_f64(), bin: samples.div_ceil(points).max(1) }
    }

    /// Where the middle of the how manieth point is.
    fn x(&self, point: usize) -> f64 {
        let seconds = (point as f64 + 0.5) * self.bin as f64 * SAMPLE.as_secs_f64();
        LEFT + PLOT_WIDTH * (seconds / self.seconds).min(1.0)
    }

    fn at(&self, seconds: f64) -> f64 {
        LEFT + PLOT_WIDTH * seconds / self.seconds
    }

    fn ticks(&self) -> impl Iterator<Item = f64> {
        let step = round_step(self.seconds / 10.0).max(1.0);
        let count = (self.seconds / step + 1e-9) as usize;
        (0..=count).map(move |tick| tick as f64 * step)
    }

    fn label(&self, svg: &mut String) -> std::fmt::Result {
        let y = HEIGHT - FOOT + 16.0;
        for tick in self.ticks() {
            writeln!(svg, "<text class=\"m\" x=\"{:.1}\" y=\"{y}\">{tick:.0} s</text>", self.at(tick))?;
        }
        Ok(())
    }
}

/// One of the drawings above each other, with an axis of its own from 0.
struct Panel {
    bottom: f64,
    height: f64,
    /// What the axis ends with.
    highest: f64,
    /// From a value to what the axis shows.
    scale: f64,
}

impl Panel {
    /// Draws the grid. `highest` is in the unit of the axis.
    fn new(
        svg: &mut String,
        axis: &TimeAxis,
        unit: &str,
        top: f64,
        height: f64,
        highest: f64,
        scale: f64,
    ) -> Result<Self, std::fmt::Error> {
        let step = round_step(highest / (height / 40.0));
        let ticks = (highest / step - 1e-9).ceil().max(1.0) as usize;
        let panel = Self { bottom: top + height, height, highest: ticks as f64 * step, scale };
        svg.push_str("<path class=\"g\" d=\"");
        for tick in 0..=ticks {
            write!(svg, "M{LEFT} {:.1}h{PLOT_WIDTH}", panel.y(tick as f64 * step / scale))?;
        }
        for tick in axis.ticks() {
            write!(svg, "M{:.1} {top}v{height}", axis.at(tick))?;
        }
        svg.push_str("\"/>\n");
        let digits = if step >= 1.0 { 0 } else { (-step.log10()).ceil() as usize };
        for tick in 0..=ticks {
            let value = tick as f64 * step;
            let y = panel.y(value / scale) + 4.0;
            writeln!(svg, "<text class=\"e\" x=\"{}\" y=\"{y:.1}\">{value:.digits$}</text>", LEFT - 6.0)?;
        }
        writeln!(svg, "<text x=\"{}\" y=\"{:.1}\">{unit}</text>", LEFT + 4.0, top - 6.0)?;
        Ok(panel)
    }

    fn y(&self, value: f64) -> f64 {
        let part = (value * self.scale / self.highest).clamp(0.0, 1.0);
        self.bottom - self.height * part
    }

    /// A line through what `put_together` makes of the samples of each point; it is broken where there are none.
    fn line(
        &self,
        svg: &mut String,
        axis: &TimeAxis,
        class: &str,
        put_together: fn(&[Option<f64>]) -> Option<f64>,
        samples: &[Option<f64>],
    ) -> std::fmt::Result {
        write!(svg, "<path class=\"{class}\" d=\"")?;
        self.points(svg, axis, put_together, samples)?;
        svg.push_str("\"/>\n");
        Ok(())
    }

    /// The same, down to the axis.
    fn area(
        &self,
        svg: &mut String,
        axis: &TimeAxis,
        class: &str,
        put_together: fn(&[Option<f64>]) -> Option<f64>,
        samples: &[Option<f64>],
    ) -> std::fmt::Result {
        if samples.is_empty() {
            return Ok(());
        }
        write!(svg, "<path class=\"{class}\" d=\"")?;
        self.points(svg, axis, put_together, samples)?;
        let last = axis.x(samples.len().div_ceil(axis.bin) - 1);
        writeln!(svg, "L{last:.1} {0}H{1:.1}Z\"/>", self.bottom, axis.x(0))
    }

    fn points(
        &self,
        svg: &mut String,
        axis: &TimeAxis,
        put_together: fn(&[Option<f64>]) -> Option<f64>,
        samples: &[Option<f64>],
    ) -> std::fmt::Result {
        // A level stretch needs its ends only: the loss of most cases is one.
        let (mut before, mut held_back): (Option<i64>, Option<f64>) = (None, None);
        for (point, chunk) in samples.chunks(axis.bin).enumerate() {
            let x = axis.x(point);
            let Some(value) = put_together(chunk) else {
                if let Some(x) = held_back.take() {
                    write!(svg, "H{x:.1}")?;
                }
                before = None;
                continue;
            };
            let tenths = (self.y(value) * 10.0).round() as i64;
            match before {
                Some(y) if y == tenths => held_back = Some(x),
                _ => {
                    if let Some(x) = held_back.take() {
                        write!(svg, "H{x:.1}")?;
                    }
                    let command = if before.is_some() { 'L' } else { 'M' };
                    write!(svg, "{command}{x:.1} {}.{}", tenths / 10, tenths % 10)?;
                }
            }
            before = Some(tenths);
        }
        if let Some(x) = held_back {
            write!(svg, "H{x:.1}")?;
        }
        Ok(())
    }

    /// A line that jumps where the value changes: what a link carries.
    fn steps(&self, svg: &mut String, axis: &TimeAxis, class: &str, samples: &[Bitrate]) -> std::fmt::Result {
        write!(svg, "<path class=\"{class}\" d=\"")?;
        let mut before = None;
        for (point, chunk) in samples.chunks(axis.bin).enumerate() {
            let y = self.y(mean(&bits(chunk)).unwrap_or(0.0));
            let x = axis.x(point) - axis.at(axis.bin as f64 * SAMPLE.as_secs_f64() / 2.0) + LEFT;
            match before {
                None => write!(svg, "M{x:.1} {y:.1}")?,
                Some(before) if before == y => {}
                Some(_) => write!(svg, "H{x:.1}V{y:.1}")?,
            }
            before = Some(y);
        }
        writeln!(svg, "H{:.1}\"/>", LEFT + PLOT_WIDTH)
    }
}

fn mean(samples: &[Option<f64>]) -> Option<f64> {
    let known = samples.iter().flatten();
    let count = known.clone().count();
    (count > 0).then(|| known.sum::<f64>() / count as f64)
}

fn most(samples: &[Option<f64>]) -> Option<f64> {
    samples.iter().flatten().copied().reduce(f64::max)
}

fn bits(rates: &[Bitrate]) -> Vec<Option<f64>> {
    rates.iter().map(|rate| Some(rate.as_bps() as f64)).collect()
}

fn some(values: &[f64]) -> Vec<Option<f64>> {
    values.iter().copied().map(Some).collect()
}

fn samples(outcome: &Outcome) -> usize {
    let flows = outcome.flows.iter().map(|flow| flow.received.len());
    flows.chain(outcome.bottlenecks.iter().map(|link| link.capacity.len())).max().unwrap_or(0)
}

/// Capacity and what came. What a controller allows may be far more, and is cut off at a quarter above that.
fn highest_rate(outcome: &Outcome) -> f64 {
    let links = outcome.bottlenecks.iter().flat_map(|link| &link.capacity);
    let flows = outcome.flows.iter().flat_map(|flow| flow.received.iter().chain(&flow.goodput));
    let others = outcome.cross.iter().flat_map(|other| &other.received);
    let seen = links.chain(flows).chain(others).map(|rate| rate.as_bps()).max().unwrap_or(0);
    let allowed = outcome.flows.iter().flat_map(|flow| &flow.target).map(|rate| rate.as_bps()).max().unwrap_or(0);
    (seen as f64 * 1.25).min(seen.max(allowed) as f64).max(1.0)
}

fn longest_wait(outcome: &Outcome) -> Duration {
    let links = outcome.bottlenecks.iter().flat_map(|link| link.queue.iter().copied());
    let flows = outcome.flows.iter().flat_map(|flow| flow.queueing.iter().flatten().copied());
    links.chain(flows).max().unwrap_or(Duration::ZERO)
}

fn most_lost(outcome: &Outcome) -> f64 {
    outcome.flows.iter().flat_map(|flow| flow.lost.iter().copied()).fold(0.0, f64::max)
}

/// The next of 1, 2 and 5 with noughts.
fn round_step(least: f64) -> f64 {
    let least = if least.is_finite() { least.max(1e-6) } else { 1.0 };
    let decade = 10f64.powf(least.log10().floor());
    [1.0, 2.0, 5.0].map(|digit| digit * decade).into_iter().find(|step| *step >= least * 0.999).unwrap_or(10.0 * decade)
}

/// Text as it may stand in XML.
struct Escaped<'a>(&'a str);

impl std::fmt::Display for Escaped<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for character in self.0.chars() {
            match character {
                '&' => formatter.write_str("&amp;")?,
                '<' => formatter.write_str("&lt;")?,
                '>' => formatter.write_str("&gt;")?,
                '"' => formatter.write_str("&quot;")?,
                // XML 1.0, section 2.2: not even escaped.
                character if character.is_control() => formatter.write_char(' ')?,
                character => formatter.write_char(character)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Controller;
    use crate::outcome::{BottleneckSeries, CrossSeries, FlowSeries, Invariants, Metrics};

    /// The drawings are kept beside the documentation.
    const MAX_BYTES: usize = 150_000;

    /// Values that go up and down without a pattern that putting together would hide.
    fn wave(index: usize, salt: usize) -> f64 {
        let mixed = (index as u64 + 1).wrapping_mul(salt as u64 * 2 + 0x9e37_79b9_7f4a_7c15);
        (mixed >> 40) as f64 / (1u64 << 24) as f64
    }

    fn outcome(seconds: usize, flows: usize, links: usize) -> Outcome {
        let samples = seconds * 5;
        let rates = |salt: usize, scale: f64| -> Vec<Bitrate> {
            (0..samples).map(|index| Bitrate::from_bps((wave(index, salt) * scale) as u64)).collect()
        };
        Outcome {
            case: "5.4",
            title: "as many as like <to> \"come\" & go",
            controller: Controller::Google,
            seed: 1,
            length: Duration::from_secs(seconds as u64),
            bottlenecks: ["A-B", "B-C", "C-D"][..links]
                .iter()
                .map(|name| BottleneckSeries {
                    name,
                    capacity: (0..samples)
                        .map(|index| Bitrate::from_bps(if index < samples / 2 { 2_000_000 } else { 1_000_000 }))
                        .collect(),
                    queue: (0..samples).map(|index| Duration::from_secs_f64(wave(index, 5) * 0.3)).collect(),
                })
                .collect(),
            flows: (0..flows)
                .map(|flow| FlowSeries {
                    name: format!("flow {}", flow + 1),
                    target: rates(flow, 2e6),
                    sent: rates(flow + 10, 2e6),
                    received: rates(flow + 20, 2e6),
                    goodput: rates(flow + 30, 2e6),
                    queueing: (0..samples)
                        .map(|index| (index % 50 > 3).then(|| Duration::from_secs_f64(wave(index, flow) * 0.3)))
                        .collect(),
                    lost: (0..samples).map(|index| wave(index, flow + 40) * 0.2).collect(),
                    lost_after_repair: (0..samples).map(|index| wave(index, flow + 50) * 0.02).collect(),
                })
                .collect(),
            cross: (0..flows)
                .map(|other| CrossSeries { name: format!("TCP {other}"), received: rates(other + 60, 2e6) })
                .collect(),
            metrics: Metrics::default(),
            invariants: Invariants::default(),
        }
    }

    /// Whether each element that begins also ends, in order.
    fn is_well_formed(svg: &str) -> bool {
        let mut open = Vec::new();
        for tag in svg.split('<').skip(1) {
            let Some((tag, text)) = tag.split_once('>') else { return false };
            if text.contains('>') {
                return false;
            }
            if let Some(name) = tag.strip_prefix('/') {
                if open.pop() != Some(name) {
                    return false;
                }
            } else if !tag.ends_with('/') {
                open.extend(tag.split_whitespace().next());
            }
        }
        open.is_empty()
    }

    #[test]
    fn a_drawing_has_a_title_and_every_flow() {
        let svg = plot(&outcome(100, 3, 2));
        assert!(is_well_formed(&svg), "{svg}");
        assert!(
            svg.contains(
                "<title id=\"title\">5.4 as many as like &lt;to&gt; &quot;come&quot; &amp; go: google</title>"
            )
        );
        assert!(svg.contains("<desc id=\"description\">"));
        for name in ["flow 1", "flow 2", "flow 3", "capacity A-B", "capacity B-C", "other traffic (3)"] {
            assert!(svg.contains(&format!(">{name}</text>")), "no {name}");
        }
        for class in ["f f0", "f f1", "f f2"] {
            // Legend, rates, delay, loss.
            assert_eq!(svg.matches(&format!("<g class=\"{class}\">")).count(), 4);
        }
    }

    #[test]
    fn the_same_outcome_gives_the_same_bytes() {
        assert_eq!(plot(&outcome(120, 3, 1)), plot(&outcome(120, 3, 1)));
        assert_ne!(plot(&outcome(120, 3, 1)), plot(&outcome(120, 2, 1)));
    }

    #[test]
    fn however_long_and_full_a_case_is_its_drawing_stays_small() {
        for (seconds, flows, links) in [(100, 1, 1), (300, 5, 1), (300, 10, 3), (3600, 20, 3), (300, 100, 3)] {
            let length = plot(&outcome(seconds, flows, links)).len();
            assert!(length <= MAX_BYTES, "{length} bytes for {flows} flows of {seconds} s");
        }
    }

    #[test]
    fn all_that_is_drawn_is_within_the_drawing() {
        let svg = plot(&outcome(100, 2, 1));
        for path in svg.split(" d=\"").skip(1) {
            let path = path.split('"').next().unwrap();
            for point in path.split(['M', 'L']).skip(1) {
                let numbers: Vec<f64> =
                    point.split([' ', 'H', 'V', 'h', 'v', 'Z']).filter_map(|number| number.parse().ok()).collect();
                assert!((0.0..=WIDTH).contains(&numbers[0]), "{point}");
                assert!((0.0..=HEIGHT).contains(&numbers[1]), "{point}");
            }
        }
    }

    #[test]
    fn nothing_at_all_can_be_drawn() {
        let svg = plot(&outcome(0, 0, 0));
        assert!(is_well_formed(&svg));
        assert!(is_well_formed(&plot(&outcome(0, 2, 1))));
        assert!(!svg.contains("NaN") && !svg.contains("inf"));
    }

    #[test]
    fn a_line_is_broken_where_nothing_came_and_level_stretches_are_short() {
        let axis = TimeAxis { seconds: 10.0, bin: 1 };
        let mut grid = String::new();
        let panel = Panel::new(&mut grid, &axis, "Mb/s", 0.0, 100.0, 1.0, 1.0).unwrap();
        let mut svg = String::new();
        let samples = [Some(0.0), Some(0.0), Some(0.0), None, Some(1.0), Some(0.5)];
        panel.line(&mut svg, &axis, "r", mean, &samples).unwrap();
        let x = |point: usize| axis.x(point);
        let expected =
            format!("<path class=\"r\" d=\"M{:.1} 100.0H{:.1}M{:.1} 0.0L{:.1} 50.0\"/>\n", x(0), x(2), x(4), x(5));
        assert_eq!(svg, expected);
    }

    #[test]
    fn steps_are_round() {
        for (least, step) in [(0.3, 0.5), (1.0, 1.0), (1.2, 2.0), (7.0, 10.0), (0.012, 0.02)] {
            assert!((round_step(least) - step).abs() < 1e-9, "{least}: {}", round_step(least));
        }
    }
}
