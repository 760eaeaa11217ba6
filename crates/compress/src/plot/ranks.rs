//! A picture of a plan: what every weight keeps, by block and role.

use std::path::Path;

use anyhow::Result;
use compress_chart::{Anchor, INK, Svg};
use compress_core::{Form, Role, Shape, Site, Survey};

/// Height and width of a cell, in pixels.
const CELL: (f64, f64) = (26.0, 72.0);

/// Room for the names of blocks and roles.
const MARGIN: (f64, f64) = (60.0, 66.0);

/// Writes a heat map: the fraction of its parameters that each weight keeps, with its rank.
pub fn draw(path: &Path, survey: &Survey<'_>, forms: &[(Site, Form)]) -> Result<()> {
    let cells: Vec<Cell> = survey
        .sites()
        .filter_map(|(site, shape)| {
            let Site::Block { layer, role } = site else {
                return None;
            };
            let form = forms.iter().find(|(at, _)| *at == site);
            // A weight without a step stays whole.
            let form = form.map_or(Form::WHOLE, |(_, form)| *form);
            Some(Cell {
                layer,
                role,
                kept: (form.parameters(shape) + shared(form, forms, shape)) as f64
                    / shape.size() as f64,
                label: label(form),
            })
        })
        .collect();
    super::write(path, &picture(&cells))
}

/// Rank; atoms and rank of a mixture, such as `2+15`; any other form in words.
fn label(form: Form) -> String {
    match form {
        Form::LowRank(pair) => pair.rank.to_string(),
        Form::Shared {
            dictionary,
            residual,
        } => {
            let rank = residual.map_or(0, |pair| pair.rank);
            format!("{}+{rank}", dictionary.atoms)
        }
        _ => form.to_string(),
    }
}

/// A weight's part of the atoms that it shares, in parameters.
fn shared(form: Form, forms: &[(Site, Form)], shape: Shape) -> usize {
    let Some(atoms) = form.dictionary() else {
        return 0;
    };
    let all = forms.iter().filter_map(|(_, form)| form.dictionary());
    let members = all.filter(|other| other.group == atoms.group).count();
    atoms.shape(shape).size() / members.max(1)
}

/// A weight in the picture.
struct Cell {
    /// Its row.
    layer: usize,
    /// Its column.
    role: Role,
    /// The share of its parameters that it keeps.
    kept: f64,
    /// Its rank, or its form where it has none.
    label: String,
}

/// The names of roles and blocks, and a cell for each weight.
fn picture(cells: &[Cell]) -> String {
    let mut svg = Svg::default();
    let corner = |layer: usize, role: usize| {
        (
            MARGIN.1 + CELL.1 * role as f64,
            MARGIN.0 + CELL.0 * layer as f64,
        )
    };
    // Where the base line of a text in the middle of a cell is.
    let middle = |(x, y): (f64, f64)| (x + CELL.1 / 2.0, y + CELL.0 / 2.0 + 4.0);
    let title = "rank (atoms + rank), and share of the parameters kept (pale 0, dark all)";
    svg.text((10.0, 18.0), Anchor::Start, INK, title);
    for (index, role) in Role::ALL.iter().enumerate() {
        let (x, y) = middle(corner(0, index));
        svg.text((x, y - CELL.0), Anchor::Middle, INK, role.name());
    }
    for cell in cells {
        let Some(role) = Role::ALL.iter().position(|&role| role == cell.role) else {
            continue;
        };
        let place = corner(cell.layer, role);
        svg.rectangle(place, (CELL.1 - 1.0, CELL.0 - 1.0), &shade(cell.kept));
        // Readable on either shade.
        let ink = if cell.kept > 0.5 { "#fff" } else { "#000" };
        svg.text(middle(place), Anchor::Middle, ink, &cell.label);
    }
    let layers = cells.iter().map(|cell| cell.layer + 1).max().unwrap_or(0);
    for layer in 0..layers {
        let (_, y) = middle(corner(layer, 0));
        let name = format!("block {layer}");
        svg.text((MARGIN.1 - 8.0, y), Anchor::End, INK, &name);
    }
    let height = MARGIN.0 + CELL.0 * layers as f64 + 12.0;
    let width = MARGIN.1 + CELL.1 * Role::ALL.len() as f64 + 12.0;
    svg.finish((width, height))
}

/// The colour of a share: from nearly white for 0 to dark blue for 1.
fn shade(share: f64) -> String {
    let share = share.clamp(0.0, 1.0);
    let channel = |end: f64| (240.0 + (end - 240.0) * share).round();
    let (red, green, blue) = (channel(8.0), channel(48.0), channel(107.0));
    format!("rgb({red},{green},{blue})")
}
