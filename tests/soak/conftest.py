"""Rounds until their time is over."""

from soaking import rounds as rounds
