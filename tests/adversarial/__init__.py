"""Defenses that cheat, or only look robust, written against the public interface: each ends unranked, and a flag says
why."""
