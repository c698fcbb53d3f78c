"""Words and their phonemes: what the synthetic speakers say.

Phonemes are single IPA letters where possible, so that the same viseme table reads this lexicon and eSpeak's output.
Bilabials and open vowels are over-represented on purpose: they make the mouth close and open fully.
"""

from __future__ import annotations

import numpy as np

WORDS: dict[str, str] = {
    "ABOVE": "ə b ʌ v",
    "AFTER": "a f t ə",
    "ALL": "ɔ l",
    "AWAY": "ə w e i",
    "BABY": "b e i b i",
    "BEAR": "b e ə",
    "BEFORE": "b i f ɔ",
    "BELOW": "b i l o u",
    "BOAT": "b o u t",
    "BOMB": "b ɔ m",
    "BOOK": "b u k",
    "BROWN": "b r a u n",
    "CALM": "k a m",
    "COME": "k ʌ m",
    "DARK": "d a k",
    "DOOR": "d ɔ",
    "EVERY": "e v r i",
    "FAMILY": "f æ m ə l i",
    "FARM": "f a m",
    "FATHER": "f a ð ə",
    "FEEL": "f i l",
    "FIVE": "f a i v",
    "FOOD": "f u d",
    "GARDEN": "g a d ə n",
    "GOOD": "g u d",
    "HAPPY": "h æ p i",
    "HEART": "h a t",
    "HOME": "h o u m",
    "HOUSE": "h a u s",
    "JUMP": "dʒ ʌ m p",
    "KEEP": "k i p",
    "LAMP": "l æ m p",
    "LEAVE": "l i v",
    "LITTLE": "l i t ə l",
    "MAMA": "m a m a",
    "MAP": "m æ p",
    "MARBLE": "m a b ə l",
    "MEET": "m i t",
    "MOON": "m u n",
    "MORE": "m ɔ",
    "MOVE": "m u v",
    "NEVER": "n e v ə",
    "NOON": "n u n",
    "OPEN": "o u p ə n",
    "OVER": "o u v ə",
    "PALM": "p a m",
    "PAPA": "p a p a",
    "PEOPLE": "p i p ə l",
    "PIANO": "p i æ n o u",
    "PILOT": "p a i l ə t",
    "POOL": "p u l",
    "RAIN": "r e i n",
    "REMEMBER": "r i m e m b ə",
    "RIVER": "r i v ə",
    "ROOM": "r u m",
    "SAW": "s ɔ",
    "SEA": "s i",
    "SHARP": "ʃ a p",
    "SHE": "ʃ i",
    "SHOW": "ʃ o u",
    "SIMPLE": "s i m p ə l",
    "SOON": "s u n",
    "SPARK": "s p a k",
    "SUMMER": "s ʌ m ə",
    "TEA": "t i",
    "THEM": "ð e m",
    "TIME": "t a i m",
    "TOMORROW": "t ə m ɔ r o u",
    "TWO": "t u",
    "UMBRELLA": "ʌ m b r e l ə",
    "UNDER": "ʌ n d ə",
    "VOICE": "v ɔ i s",
    "WALK": "w ɔ k",
    "WARM": "w ɔ m",
    "WATER": "w ɔ t ə",
    "WE": "w i",
    "WINDOW": "w i n d o u",
    "WOOD": "w u d",
    "YELLOW": "j e l o u",
    "YOU": "j u",
}


def random_sentence(rng: np.random.Generator, seconds: float) -> list[str]:
    """Draw enough words to fill `seconds` of speech; no word follows itself.

    Args:
        rng: the clip's generator; the sentence is a pure function of it.
        seconds: length to fill, with about three words a second.
    """
    names = list(WORDS)
    words: list[str] = []
    while len(words) < max(2, round(3.2 * seconds + 1)):
        word = names[int(rng.integers(len(names)))]
        if not words or word != words[-1]:
            words.append(word)
    return words


def pronounce(words: list[str]) -> list[list[str]]:
    """Phonemes of each word. A word outside the lexicon is babbled from its letters, so that any text can be spoken."""
    letters = {"c": "k", "q": "k", "x": "s", "y": "i"}
    spoken: list[list[str]] = []
    for word in words:
        known = WORDS.get(word.upper())
        phonemes = known.split() if known else [letters.get(c, c) for c in word.lower() if "a" <= c <= "z"]
        if phonemes:
            spoken.append(phonemes)
    return spoken
