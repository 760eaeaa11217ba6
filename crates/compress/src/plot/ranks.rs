//! A picture of a plan: what every weight keeps, by block and role.

use std::{error::Error, path::Path};

use anyhow::Result;
use compress_core::{Form, Role, Shape, Site, Survey};
use plotters::{
    prelude::*,
    style::text_anchor::{HPos, Pos, VPos},
};

use super::{Canvas, shade};

/// Height and width of a cell, in pixels.
const CELL: (i32, i32) = (26, 64);

/// Room for the names of blocks and roles.
const MARGIN: (i32, i32) = (70, 60);

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
    let layers = cells.iter().map(|cell| cell.layer + 1).max();
    let height = MARGIN.0 + CELL.0 * layers.unwrap_or(0) as i32 + 15;
    let width = MARGIN.1 + CELL.1 * Role::ALL.len() as i32 + 15;
    super::write(path, (width as u32, height as u32), |canvas| {
        render(canvas, &cells)
    })
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

/// Draws the names of roles and blocks, and a cell for each weight.
fn render(canvas: &Canvas<'_>, cells: &[Cell]) -> std::result::Result<(), Box<dyn Error>> {
    let centred = |colour: RGBColor| {
        let font = ("sans-serif", 12).into_font().color(&colour);
        font.pos(Pos::new(HPos::Center, VPos::Center))
    };
    let corner = |layer: usize, role: usize| {
        (
            MARGIN.1 + CELL.1 * role as i32,
            MARGIN.0 + CELL.0 * layer as i32,
        )
    };
    let middle = |(x, y): (i32, i32)| (x + CELL.1 / 2, y + CELL.0 / 2);
    let title = "rank (atoms + rank), and share of the parameters kept (white 0, dark all)";
    canvas.draw(&Text::new(title, (10, 12), ("sans-serif", 14)))?;
    for (index, role) in Role::ALL.iter().enumerate() {
        let (x, y) = middle(corner(0, index));
        canvas.draw(&Text::new(role.name(), (x, y - CELL.0), centred(BLACK)))?;
    }
    for cell in cells {
        let Some(role) = Role::ALL.iter().position(|&role| role == cell.role) else {
            continue;
        };
        let place = corner(cell.layer, role);
        let end = (place.0 + CELL.1 - 1, place.1 + CELL.0 - 1);
        canvas.draw(&Rectangle::new([place, end], shade(cell.kept).filled()))?;
        // Readable on either shade.
        let ink = if cell.kept > 0.5 { WHITE } else { BLACK };
        canvas.draw(&Text::new(cell.label.clone(), middle(place), centred(ink)))?;
        let (x, y) = middle(corner(cell.layer, 0));
        let name = format!("block {}", cell.layer);
        canvas.draw(&Text::new(name, (x - CELL.1, y), centred(BLACK)))?;
    }
    Ok(())
}
