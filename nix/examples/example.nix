# All of imgsys on one machine.
{
  services.imgsys.enable = true;
}
