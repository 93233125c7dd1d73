"""What training costs, measured; notebook 09 shows it. No part of the library.

Times are taken in one run and reported as ratios where they are claims, for machines differ and are
seldom quiet. `timing` measures, `step` takes a training step apart, `transport` compares ours with the
plain loop, `crops` the ways to a batch of crops, `counting` those to many counts, `processes` one training
by several processes.
"""
