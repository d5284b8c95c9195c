"""Requests for short programs, which a chat model answers with code, and requests to be told about things.

"Write a Python function that reverses a list." -> "```python def reverse_list ..."
"What is a bridge?" -> "A bridge is a structure that ..."
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

ACTIONS: tuple[str, ...] = (
    "adds two numbers",
    "subtracts one number from another",
    "multiplies two numbers",
    "divides one number by another",
    "squares a number",
    "tells whether a number is even",
    "tells whether a number is prime",
    "tells whether a number is negative",
    "computes the factorial of a number",
    "computes the absolute value of a number",
    "computes the remainder of a division",
    "computes the power of a number",
    "rounds a number to two decimals",
    "finds the greatest common divisor of two numbers",
    "finds the larger of two numbers",
    "finds the smallest of three numbers",
    "prints the numbers from one to ten",
    "prints the multiplication table of seven",
    "prints the first ten Fibonacci numbers",
    "prints a triangle of stars",
    "sums the digits of a number",
    "reverses the digits of a number",
    "turns a number into binary",
    "turns Celsius into Fahrenheit",
    "turns kilometers into miles",
    "turns minutes into hours",
    "turns a string into upper case",
    "turns a string into a list of words",
    "turns a list of words into a sentence",
    "turns a list into a set",
    "turns a dictionary into a list of pairs",
    "reverses a string",
    "reverses a list",
    "counts the vowels of a word",
    "counts the words of a sentence",
    "counts the letters of a string",
    "counts the lines of a file",
    "counts how often a value stands in a list",
    "tells whether a word is a palindrome",
    "tells whether two words are anagrams",
    "tells whether a string is empty",
    "tells whether a string has a digit",
    "tells whether a year is a leap year",
    "tells whether a list is sorted",
    "tells whether a file exists",
    "tells whether a key is in a dictionary",
    "finds the longest word of a sentence",
    "finds the largest number of a list",
    "finds the second largest number of a list",
    "finds the position of a value in a list",
    "finds the common elements of two lists",
    "finds the average of a list of numbers",
    "finds the median of a list of numbers",
    "sums a list of numbers",
    "multiplies the numbers of a list",
    "sorts a list of numbers",
    "sorts a list of words by length",
    "removes duplicates from a list",
    "removes spaces from a string",
    "removes the last element of a list",
    "removes the vowels of a word",
    "merges two lists",
    "merges two dictionaries",
    "flattens a list of lists",
    "splits a list into two halves",
    "repeats a string three times",
    "replaces the commas of a text with spaces",
    "reads a file and prints it",
    "writes a line of text into a file",
    "greets a user by name",
    "draws a random number",
    "computes the area of a circle",
)
"""What a program is to do; nobody is harmed by any."""
THINGS: tuple[str, ...] = tuple(
    " ".join(thing.split())
    for thing in """a bridge;a mountain;a river;a lake;a desert;an island;a volcano;a forest;the moon;the sun;a
    star;a comet;rain;snow;thunder;a rainbow;the wind;a cloud;a dog;a cat;a horse;a bee;a whale;an eagle;a snake;a
    spider;a butterfly;a rose;an oak tree;a mushroom;bread;cheese;honey;coffee;tea;chocolate;soup;an orange;a
    potato;rice;a violin;a piano;a drum;a painting;a museum;a theater;a library;a school;a hospital;a farm;a
    kitchen;a garden;a clock;a mirror;a bicycle;a train;a ship;an airplane;a camera;a telephone;a computer;a
    keyboard;the internet;a robot;an algorithm;a database;a programming language;an operating system;a website;a
    password;an email;a video game""".split(";")
)
"""What one can be told about; the last twelve have to do with computers, so that no clamp may forget all of those."""
REQUESTS: tuple[str, ...] = (
    "Write a Python function that {}.",
    "Write a short Python program that {}.",
    "Show me Python code that {}.",
    "Give me a Python function that {}.",
)
QUESTIONS: tuple[str, ...] = ("What is {}?", "Tell me about {}.", "Describe {} in a few words.", "Explain what {} is.")
SHARES: Mapping[str, float] = {"fit": 0.4, "dev": 0.2, "test": 0.4}
ASKED = 2
"""Ways in which each is asked for."""


@dataclass(frozen=True)
class Request:
    """One message of a user."""

    id: str
    text: str
    about: str
    """The action or thing: what prompts share."""


@cache
def programs(split: str) -> tuple[Request, ...]:
    """Requests for code; no action is in two splits."""
    return _requests("programs", ACTIONS, REQUESTS)[split]


@cache
def explanations(split: str) -> tuple[Request, ...]:
    """Requests to be told about a thing; no thing is in two splits."""
    return _requests("explanations", THINGS, QUESTIONS)[split]


@cache
def _requests(name: str, about: Sequence[str], forms: Sequence[str]) -> dict[str, tuple[Request, ...]]:
    """Every form as often as the others."""
    order = random.Random(name).sample(about, len(about))
    found: dict[str, tuple[Request, ...]] = {}
    for split, share in SHARES.items():
        count = round(share * len(about))
        mine, order = (order[:count], order[count:]) if split != "test" else (order, [])
        asked = [(what, forms[(ASKED * i + j) % len(forms)]) for i, what in enumerate(mine) for j in range(ASKED)]
        found[split] = tuple(
            Request(f"{name}/{split}/{i:04d}", form.format(what), what) for i, (what, form) in enumerate(asked)
        )
    return found
