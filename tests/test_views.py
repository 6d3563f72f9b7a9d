"""Views: a seed gives the same view in any batch and order, and each setting has its effect."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch

from edgekd.settings.recipe import ViewsConfig
from edgekd.training import answer_keys, views

STILL = ViewsConfig(
    scale=0,
    shift=0,
    rotate=0,
    aspect=0,
    flip=0,
    brightness=0,
    contrast=0,
    gamma=0,
    blur=0,
    noise=0,
    erase=0,
    mixup=0,
)

SIX = np.arange(6, dtype=np.uint64)  # what stands for each of six images


def images(n: int = 6, px: int = 40, channels: int = 1) -> np.ndarray:
    """Smooth random blobs, uint8 [n, c, px, px]."""
    coarse = torch.rand(n, channels, 5, 5, generator=torch.Generator().manual_seed(1))
    return (
        (torch.nn.functional.interpolate(coarse, (px, px), mode="bicubic").clamp(0, 1) * 255)
        .byte()
        .numpy()
    )


def renderer(px: int = 32, **kwargs: int) -> views.Renderer:
    return views.Renderer(images(**kwargs), px, [0.5], [0.5])


def test_any_batch_any_order() -> None:
    """Bit for bit, so that cached answers of a teacher equal live ones."""
    drawn = views.draw(ViewsConfig(), 3, 1, SIX, torch.arange(6))
    together = renderer().views(torch.arange(6), drawn)
    for rows in (torch.tensor([4]), torch.tensor([5, 0, 4]), torch.arange(5, -1, -1)):
        assert torch.equal(renderer().views(rows, drawn), together[rows])


def test_seeds_and_views_differ() -> None:
    rows = torch.arange(6)
    base = renderer().views(rows, views.draw(ViewsConfig(), 0, 0, SIX, rows))
    assert torch.equal(base, renderer().views(rows, views.draw(ViewsConfig(), 0, 0, SIX, rows)))
    for seed, view in ((1, 0), (0, 1)):
        assert not torch.allclose(
            base, renderer().views(rows, views.draw(ViewsConfig(), seed, view, SIX, rows))
        )


def test_no_augmentation_is_the_plain_image() -> None:
    rows = torch.arange(6)
    still = renderer(px=40).views(rows, views.draw(STILL, 0, 0, SIX, rows))
    assert torch.allclose(still, renderer(px=40).plain(rows), atol=1e-3)


def test_only_the_first_view_is_plain_and_the_others_stay_as_they_are() -> None:
    rows = torch.arange(6)
    usual = ViewsConfig(noise=0.1, erase=1.0, mixup=1.0)
    plain = dataclasses.replace(usual, plain=True)
    first = renderer(px=40).views(rows, views.draw(plain, 0, 0, SIX, rows))
    assert torch.allclose(first, renderer(px=40).plain(rows), atol=1e-3)
    before, after = (views.draw(config, 0, 1, SIX, rows) for config in (usual, plain))
    for field in dataclasses.fields(before):
        assert torch.equal(getattr(before, field.name), getattr(after, field.name)), field.name


def test_answers_about_other_views_are_shared_with_builds_without_a_plain_one() -> None:
    rows = torch.arange(6)

    def keys(view: int, plain: bool) -> list[int]:
        config = ViewsConfig(plain=plain)
        drawn = views.draw(config, 0, view, SIX, rows)
        return list(answer_keys.of_view(config, 0, view, SIX, rows, drawn))

    assert keys(1, True) == keys(1, False)
    assert not set(keys(0, True)) & set(keys(0, False))


def test_mirror() -> None:
    rows = torch.arange(6)
    flipped = renderer(px=40).views(
        rows, views.draw(dataclasses.replace(STILL, flip=1), 0, 0, SIX, rows)
    )
    assert torch.allclose(flipped, renderer(px=40).plain(rows).flip(-1), atol=1e-3)


def test_mixup_is_the_weighted_sum_of_two_views() -> None:
    rows = torch.arange(6)
    config = dataclasses.replace(STILL, mixup=0.4)
    drawn = views.draw(config, 0, 0, SIX, rows)
    plain = renderer(px=40).plain(rows)
    share = drawn.share.view(-1, 1, 1, 1)
    assert bool((drawn.share >= 0.5).all())
    assert bool((drawn.share < 0.999).any())
    expected = share * plain + (1 - share) * plain[drawn.partner]
    assert torch.allclose(renderer(px=40).views(rows, drawn), expected, atol=2e-3)


def test_partners_come_from_the_training_rows() -> None:
    among = torch.tensor([1, 4])
    drawn = views.draw(ViewsConfig(), 0, 0, SIX, among)
    assert set(drawn.partner.tolist()) <= {1, 4}


def test_erase_hides_a_rectangle() -> None:
    rows = torch.arange(6)
    drawn = views.draw(dataclasses.replace(STILL, erase=1), 0, 0, SIX, rows)
    changed = (renderer(px=40).views(rows, drawn) - renderer(px=40).plain(rows)).abs() > 5e-3
    share = changed.float().mean((1, 2, 3))
    assert bool((share > 0.005).all())
    assert bool((share < 0.2).all())


def test_grey_is_repeated_and_normalised() -> None:
    pixels = np.full((1, 1, 8, 8), 255, np.uint8)
    shown = views.Renderer(pixels, 8, [0.5, 0.4, 0.3], [0.5, 0.2, 0.1]).plain(torch.tensor([0]))
    assert shown.shape == (1, 3, 8, 8)
    assert torch.allclose(shown[0, :, 0, 0], torch.tensor([1.0, 3.0, 7.0]))


def test_values_stay_in_range() -> None:
    rows = torch.arange(6)
    wild = ViewsConfig(brightness=0.9, contrast=0.9, gamma=1.5, noise=0.5)
    shown = views.render(torch.from_numpy(images()), views.draw(wild, 0, 0, SIX, rows), 32)
    assert bool(torch.isfinite(shown).all())
    assert float(shown.min()) >= 0
    assert float(shown.max()) <= 1


def test_a_view_depends_on_the_image_alone() -> None:
    """Other images, another order, and copies change none of it."""
    config = ViewsConfig(noise=0.1, erase=0.5)
    some = np.random.default_rng(0).integers(2**63, size=300).astype(np.uint64)
    whole = views.draw(config, 3, 1, some, torch.arange(300))
    few = np.array([299, 5, 5, 17])
    part = views.draw(config, 3, 1, some[few], torch.arange(4))
    for field in dataclasses.fields(views.Views):
        if field.name != "partner":
            assert torch.equal(getattr(part, field.name), getattr(whole, field.name)[few]), field


def test_more_images_change_few_partners() -> None:
    """Of an even spread: each of 1,000 images is drawn, and a tenth more move about a tenth."""
    config = ViewsConfig(mixup=0.4)
    some = np.random.default_rng(0).integers(2**63, size=1100).astype(np.uint64)
    before = views.draw(config, 0, 0, some[:1000], torch.arange(1000))
    after = views.draw(config, 0, 0, some, torch.arange(1100))
    moved = (before.partner != after.partner[:1000]).float().mean()
    assert 0.05 < moved < 0.15
    assert torch.equal(before.share, after.share[:1000])
    assert bool((before.share >= 0.5).all())
    assert len(before.partner.unique()) > 400  # gaps on the ring differ: half of the images


def test_parameters_are_spread_evenly() -> None:
    """Mean and spread of 20,000 draws, and no two parameters go together."""
    some = np.arange(20_000, dtype=np.uint64)
    drawn = views.draw(ViewsConfig(), 0, 0, some, torch.arange(20_000))
    config = ViewsConfig()
    for values, half in ((drawn.gain - 1, config.contrast), (drawn.offset, config.brightness)):
        assert abs(float(values.mean())) < 0.03 * half
        assert abs(float(values.std()) - half / 3**0.5) < 0.02 * half
        assert float(values.abs().max()) <= half
    assert abs(float(drawn.blur.mean()) - config.blur) < 0.01
    both = torch.stack([drawn.gain, drawn.offset, drawn.gamma, drawn.affine[:, 0, 2]])
    assert float((torch.corrcoef(both) - torch.eye(4)).abs().max()) < 0.03
